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
from scaling.records.result import RunResult
from scaling.records.run_plan import RunPlan
from scaling.records.state import RunLock, RunState
from scaling.records.study import save_plan_order
from scaling.spec.document import Document

Standing = Literal["pending", "evaluate", "resume", "running", "failed", "done"]
"""What the launcher finds: never started; trained but new evaluations are asked for; killed or pre-empted on the
way; alive in another process; ended with an error; nothing to do."""


NEVER_STARTED = RunState()


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
    existing = {path.name for path in study_dir.iterdir()} if study_dir.is_dir() else set[str]()
    for plan in plans:
        run_dir = study_dir / plan.run_id
        if plan.run_id not in existing:
            runs.append(PlannedRun(run_dir, plan, "pending", NEVER_STARTED))
            continue
        state = RunState.load(run_dir)
        runs.append(PlannedRun(run_dir, plan, _standing(run_dir, plan, state), state))
    return runs


def _standing(run_dir: Path, plan: RunPlan, state: RunState) -> Standing:
    if RunLock.is_held(run_dir):
        return "running"
    result = RunResult.load(run_dir)
    if result is not None:
        missing = [evaluation for evaluation in plan.evals if result.evals.get(evaluation.name) != evaluation.digest()]
        return "evaluate" if missing else "done"
    if state.status == "failed":
        return "failed"
    return "resume" if state.attempt > 0 else "pending"


def _may_refresh(run_dir: Path, plan: RunPlan) -> bool:
    """A changed plan of a run that nobody holds. A finished run keeps the plan it was trained with, unless further
    evaluations are asked of it."""
    if RunLock.is_held(run_dir):
        return False
    old = RunPlan.load(run_dir)
    if RunResult.load(run_dir) is not None:
        return old.evals != plan.evals
    return old != plan
