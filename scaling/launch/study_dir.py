"""The study directory as the launcher writes it: frozen sweep, plan order, one folder with run.json per run.

Planning again never destroys: a finished run keeps its records, and a run that left the plan keeps its folder.
What a re-plan may change in an existing run is only what its identity does not cover (paths, devices,
intervals, evaluations).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import yaml

from scaling.records.files import write_text_atomic
from scaling.records.reading import RecordError
from scaling.records.run_plan import RunPlan
from scaling.records.standing import find_standing
from scaling.records.state import RunState, Status
from scaling.records.study import save_plan_order
from scaling.spec.document import Document

Standing = Literal["pending", "evaluate", "resume", "running", "failed", "done"]
"""What the launcher finds: never started; trained but new evaluations are asked for; killed or pre-empted on the
way; alive in another process; ended with an error; nothing to do."""


@dataclass(frozen=True, slots=True)
class PlannedRun:
    run_dir: Path
    plan: RunPlan
    standing: Standing
    state: RunState


def write_study(study_dir: Path, document: Document, plans: Sequence[RunPlan]) -> None:
    """Create or refresh the study directory for these plans."""
    study_dir.mkdir(parents=True, exist_ok=True)
    sweep = yaml.safe_dump(document.data, sort_keys=False, allow_unicode=True, width=116)
    write_text_atomic(study_dir / "study.yaml", sweep)
    for plan in plans:
        run_dir = study_dir / plan.run_id
        run_dir.mkdir(exist_ok=True)
        if not (run_dir / "run.json").exists() or _may_refresh(run_dir, plan):
            plan.save(run_dir)
    save_plan_order(study_dir, [plan.run_id for plan in plans])


def find_standings(study_dir: Path, plans: Sequence[RunPlan]) -> list[PlannedRun]:
    """Where each planned run stands, read from its folder; folders need not exist."""
    runs = []
    for plan in plans:
        run_dir = study_dir / plan.run_id
        standing, state = _standing(run_dir, plan)
        runs.append(PlannedRun(run_dir, plan, standing, state))
    return runs


def _standing(run_dir: Path, plan: RunPlan) -> tuple[Standing, RunState]:
    found = find_standing(run_dir, plan)
    state = found.state.model_copy(update={"error": found.reason})
    if found.is_alive:
        return "running", state
    if found.status is Status.DONE:
        if found.is_finished:
            return "done", state
        return ("failed" if found.evaluation_failed else "evaluate"), state
    if found.status is Status.FAILED:
        return "failed", state
    return "pending" if found.status is Status.PENDING else "resume", state


def _may_refresh(run_dir: Path, plan: RunPlan) -> bool:
    """A changed or damaged plan of a run that nobody holds. A finished run keeps the plan it was trained with, unless
    further evaluations are asked of it."""
    found = find_standing(run_dir, plan)
    if found.is_alive:
        return False
    try:
        old = RunPlan.load(run_dir)
    except RecordError:
        return True
    if found.status is Status.DONE:
        return old.evals != plan.evals
    return old != plan
