"""A study directory read back: which runs were planned, where each stands, what each left."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scaling.errors import UserError
from scaling.records.evaluation import Evaluation, current_evaluations
from scaling.records.events import EventLog, read_events
from scaling.records.ownership.lease import LifeWatch
from scaling.records.reading import RecordError, read_sealed, write_sealed
from scaling.records.result import RunResult
from scaling.records.run_dir import RunDir, StudyDir
from scaling.records.run_plan import RunPlan
from scaling.records.scores.suites import suite_metrics
from scaling.records.standing import Standing, find_standing
from scaling.records.state import RunState

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RunRecord:
    """Everything one run directory says."""

    run_dir: Path
    plan: RunPlan
    standing: Standing
    evaluations: dict[str, Evaluation]
    """Current records of the planned evaluations, by name."""
    in_plan: bool
    """Whether the study's current plan still contains this run."""

    @property
    def state(self) -> RunState:
        return self.standing.state

    @property
    def result(self) -> RunResult | None:
        return self.standing.result

    @property
    def metrics(self) -> dict[str, float]:
        """What training found, what the current evaluations measured and the means of complete suites; empty before the
        run is trained."""
        found = merged_metrics(self.result, self.evaluations)
        return found | suite_metrics(self.plan.evals, found)

    def events(self) -> EventLog:
        return read_events(RunDir(self.run_dir).events)


@dataclass(frozen=True, slots=True)
class StudyRecords:
    """All runs of a study that can be read, and those that cannot."""

    runs: tuple[RunRecord, ...]
    """Those of the current plan in plan order, then others by name."""
    damaged: tuple[RecordError, ...]
    """One per run whose plan cannot be read; `path` lies in its folder."""


def merged_metrics(result: RunResult | None, evaluations: dict[str, Evaluation]) -> dict[str, float]:
    """Metrics of training and of evaluations under their own names, which never meet: an evaluation's have a prefix."""
    metrics = dict(result.metrics) if result is not None else {}
    for record in evaluations.values():
        metrics |= record.metrics
    return metrics


def load_run(run_dir: Path, *, in_plan: bool = True, watch: LifeWatch | None = None) -> RunRecord:
    """One run; UserError without a plan, RecordError with a damaged one or one of another run."""
    plan = RunPlan.load(run_dir)
    # A link in the place of a run that lies on another disk, or a link of another name to a run, both tell the run.
    if plan.run_id not in (run_dir.absolute().name, run_dir.resolve().name):
        path = RunDir(run_dir).plan
        raise RecordError(path, f"is the plan of run {plan.run_id}; give the folder its name, or remove it")
    standing = find_standing(run_dir, plan, watch)
    evaluations = current_evaluations(run_dir, standing.result, plan.evals) if standing.result else {}
    return RunRecord(run_dir, plan, standing, evaluations, in_plan)


def save_plan_order(study_dir: Path, run_ids: Sequence[str]) -> None:
    """Record which runs the current plan consists of, in the order they were planned."""
    write_sealed(StudyDir(study_dir).order, {"run_ids": list(run_ids)})


def load_plan_order(study_dir: Path) -> list[str] | None:
    """Run ids of the current plan; None when nobody wrote them down, or, with a warning, when that file is damaged."""
    path = StudyDir(study_dir).order
    try:
        run_ids = read_sealed(path).get("run_ids")
        if not isinstance(run_ids, list) or not all(isinstance(run_id, str) for run_id in run_ids):
            raise RecordError(path, "run_ids is no list of names")
    except FileNotFoundError:
        return None
    except RecordError as error:
        logger.warning("%s; every run folder counts, until the study is planned again", error)
        return None
    return run_ids


def read_study(study_dir: Path, watch: LifeWatch | None = None) -> StudyRecords:
    """All runs of a study. UserError when the folder is none; a run that cannot be read is listed and left out."""
    if not study_dir.is_dir():
        raise UserError(f"study directory {study_dir} does not exist; scaling.launch makes it as RUNS/<study>")
    planned = load_plan_order(study_dir)
    rank = {run_id: position for position, run_id in enumerate(planned or ())}
    folders = [run.path for run in StudyDir(study_dir).run_dirs()]
    if not folders:
        raise UserError(f"{study_dir} holds no runs (no */run.json); give the folder RUNS/<study> of a launched study")
    folders.sort(key=lambda folder: (rank.get(folder.name, len(rank)), folder.name))
    runs, damaged = [], []
    for folder in folders:
        try:
            runs.append(load_run(folder, in_plan=planned is None or folder.name in rank, watch=watch))
        except RecordError as error:
            logger.warning("%s; the run is left out", error)
            damaged.append(error)
    for run_id in sorted(rank.keys() - {folder.name for folder in folders}):
        path = RunDir(study_dir / run_id).plan
        missing = RecordError(path, f"is missing, and {StudyDir(study_dir).order.name} names the run")
        logger.warning("%s; plan the study again", missing)
        damaged.append(missing)
    return StudyRecords(tuple(runs), tuple(damaged))
