"""The study directory as the launcher writes it: frozen sweep, plan order, one folder with run.json per run.

Planning again never destroys: a finished run keeps its records, and a run that left the plan keeps its folder.
What a re-plan may change in an existing run is only what its identity does not cover (paths, devices,
intervals, evaluations); of a run that is trained, only the list of evaluations, what is counted of its model, and the
search that it is said to follow from. Evaluations that `scaling.evaluate` has added stay. Where a run is executed, or
was so far, otherwise than the study now says, that is told once.
"""

import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scaling.records.attempts.ends import Ends
from scaling.records.frozen_sweep import write_sweep
from scaling.records.ownership.lease import LifeWatch
from scaling.records.reading import RecordError
from scaling.records.run_dir import RunDir
from scaling.records.run_plan import RunPlan
from scaling.records.standing import Standing, find_standing
from scaling.records.state import RunState, Status
from scaling.records.study import save_plan_order
from scaling.spec.document import Document
from scaling.spec.plain_yaml import write_yaml

logger = logging.getLogger(__name__)

WRITTEN_AS = {
    "num_devices": "launch.devices_per_run",
    "reproduce": "launch.reproduce",
    "trackers": "launch.trackers",
    "max_corrupt": "data.max_corrupt",
}
"""Fields of a plan that a study names otherwise than its settings."""

NEVER_STARTED = Standing(
    status=Status.PENDING,
    reason="",
    is_alive=False,
    missing_evals=(),
    evaluation_failed=False,
    state=RunState(),
    ends=Ends((), ()),
    result=None,
)


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """One run of the plan and where it stands."""

    run_dir: Path
    """Absolute."""
    plan: RunPlan
    standing: Standing

    def look_again(self, watch: LifeWatch | None = None) -> "PlannedRun":
        """The same run as its folder tells now."""
        return PlannedRun(self.run_dir, self.plan, find_standing(self.run_dir, self.plan, watch))

    def complaint(self, said: str) -> str:
        """A line on a run without a result: what is `said` of it, why, and where to read more."""
        reason = f": {self.standing.reason}" if self.standing.reason else ""
        return f"{said}: {self.plan.run_id}{reason}  (log: {RunDir(self.run_dir).log})"


@dataclass(frozen=True, slots=True)
class _Found:
    """What the folder of a run held before it was refreshed."""

    standing: Standing
    plan: RunPlan | None
    """None when it is damaged."""


def write_study(study_dir: Path, document: Document, plans: Sequence[RunPlan]) -> None:
    """Create or refresh the study directory for these plans."""
    study_dir.mkdir(parents=True, exist_ok=True)
    write_sweep(study_dir, write_yaml(document.data))
    found = [(plan, _write(study_dir / plan.run_id, plan)) for plan in plans]
    save_plan_order(study_dir, [plan.run_id for plan in plans])
    _tell_other_settings(study_dir, [(plan, before) for plan, before in found if before is not None])


def write_run(study_dir: Path, plan: RunPlan) -> Path:
    """Create or refresh the folder of one run; a run that a process holds is left as it is."""
    _write(study_dir / plan.run_id, plan)
    return study_dir / plan.run_id


def find_standings(study_dir: Path, plans: Sequence[RunPlan]) -> list[PlannedRun]:
    """Where each planned run stands, read from its folder; folders need not exist."""
    existing = {path.name for path in study_dir.iterdir()} if study_dir.is_dir() else set[str]()
    root = study_dir.resolve()
    return [
        PlannedRun(
            root / plan.run_id,
            plan,
            find_standing(root / plan.run_id, plan) if plan.run_id in existing else NEVER_STARTED,
        )
        for plan in plans
    ]


def _write(run_dir: Path, plan: RunPlan) -> _Found | None:
    """`write_run`; returns what was there, None for a new run."""
    run_dir.mkdir(exist_ok=True)
    found = _find(run_dir, plan) if RunDir(run_dir).plan.exists() else None
    fresh = plan if found is None else _refreshed(found, plan)
    if fresh is not None:
        fresh.save(run_dir)
    return found


def _find(run_dir: Path, plan: RunPlan) -> _Found:
    standing = find_standing(run_dir, plan)
    try:
        return _Found(standing, RunPlan.load(run_dir))
    except RecordError:
        return _Found(standing, None)


def _refreshed(found: _Found, plan: RunPlan) -> RunPlan | None:
    """What has to be written over the plan of an existing run; None for nothing."""
    if found.standing.is_alive:
        return None
    old = found.plan
    if old is None or old.run_id != plan.run_id:
        return plan
    named = {one.name for one in plan.evals}
    evals = (*plan.evals, *(one for one in old.evals if one.added and one.name not in named))
    if found.standing.status is Status.DONE:
        # What it was trained by stays. Counts of FLOPs and parameters say nothing of that, and may be corrected; how it
        # is compared with other trials, and which search its values come from, may have changed, and they have not.
        plan = old.model_copy(update={"model": plan.model, "trial": plan.trial, "choice": plan.choice})
    plan = plan.model_copy(update={"evals": evals})
    return plan if plan != old else None


def _tell_other_settings(study_dir: Path, runs: Sequence[tuple[RunPlan, _Found]]) -> None:
    """One warning of runs that were started with other settings of the engine or other intervals, which are no part of
    who a run is: what is trained or at work keeps them, and what is to continue takes the new ones."""
    differing: dict[str, list[set[str]]] = defaultdict(list)
    for plan, found in runs:
        names = _other_settings(found.plan, plan) if found.plan is not None else set[str]()
        if names and (words := _what_becomes_of(found.standing)):
            differing[words].append(names)
    if differing:
        told = "; ".join(f"{len(names):,} of the runs are {words}" for words, names in differing.items())
        every = set[str]().union(*(one for names in differing.values() for one in names))
        logger.warning(
            "%s: other settings than before, which do not make other runs (%s): %s; to train all with the new ones, "
            "give the study another name",
            study_dir,
            ", ".join(sorted(every)),
            told,
        )


def _what_becomes_of(standing: Standing) -> str:
    """Of a run whose settings of execution are changed; empty where it has done nothing with the former ones."""
    if standing.status is Status.DONE:
        return "trained already and keep those that they were trained with"
    if standing.is_alive:
        return "at work and keep those that they were started with"
    has_begun = standing.ends.all or standing.state.step
    return "trained in part with the former and continue with the new ones" if has_begun else ""


def _other_settings(old: RunPlan, new: RunPlan) -> set[str]:
    """Names, as a study writes them, of what differs in how two plans of one run are executed."""
    if old.identity != new.identity:
        return set()
    found = set()
    for before, after in ((old.engine, new.engine), (old.intervals, new.intervals)):
        for name in type(before).model_fields:
            if getattr(before, name) != getattr(after, name):
                written = name.replace("_steps", "_every") if name.endswith("_steps") else name
                found.add(WRITTEN_AS.get(name, "micro_batch" if name == "auto_micro_batch" else written))
    return found
