"""The study directory as the launcher writes it: frozen sweep, plan order, one folder with run.json per run.

Planning again never destroys: a finished run keeps its records, and a run that left the plan keeps its folder.
What a re-plan may change in an existing run is only what its identity does not cover (paths, devices,
intervals, evaluations); of a run that is trained, only the list of evaluations, what is counted of its model, and the
search that it is said to follow from. Evaluations that `scaling.evaluate` has added stay.
"""

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


def write_study(study_dir: Path, document: Document, plans: Sequence[RunPlan]) -> None:
    """Create or refresh the study directory for these plans."""
    study_dir.mkdir(parents=True, exist_ok=True)
    write_sweep(study_dir, write_yaml(document.data))
    for plan in plans:
        write_run(study_dir, plan)
    save_plan_order(study_dir, [plan.run_id for plan in plans])


def write_run(study_dir: Path, plan: RunPlan) -> Path:
    """Create or refresh the folder of one run; a run that a process holds is left as it is."""
    run = RunDir(study_dir / plan.run_id)
    run.path.mkdir(exist_ok=True)
    fresh = plan if not run.plan.exists() else _refreshed(run.path, plan)
    if fresh is not None:
        fresh.save(run.path)
    return run.path


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


def _refreshed(run_dir: Path, plan: RunPlan) -> RunPlan | None:
    """What has to be written over the plan of an existing run; None for nothing."""
    standing = find_standing(run_dir, plan)
    if standing.is_alive:
        return None
    try:
        old = RunPlan.load(run_dir)
    except RecordError:
        return plan
    if old.run_id != plan.run_id:
        return plan
    named = {one.name for one in plan.evals}
    evals = (*plan.evals, *(one for one in old.evals if one.added and one.name not in named))
    if standing.status is Status.DONE:
        # What it was trained by stays. Counts of FLOPs and parameters say nothing of that, and may be corrected; how it
        # is compared with other trials, and which search its values come from, may have changed, and they have not.
        plan = old.model_copy(update={"model": plan.model, "trial": plan.trial, "choice": plan.choice})
    plan = plan.model_copy(update={"evals": evals})
    return plan if plan != old else None
