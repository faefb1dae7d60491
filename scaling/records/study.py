"""A study directory read back: which runs were planned, where each stands, what each left.

runs/<study>/study.yaml   the sweep as planned
runs/<study>/plan.json    the run ids of the current plan, in plan order
runs/<study>/<run_id>/    run.json, events.jsonl, state.json, result.json, checkpoints/, log.txt
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scaling.errors import UserError
from scaling.records.events import EventLog, read_events
from scaling.records.files import write_json_atomic
from scaling.records.result import RunResult
from scaling.records.run_plan import RunPlan
from scaling.records.state import RunState


@dataclass(frozen=True, slots=True)
class RunRecord:
    """Everything one run directory says."""

    run_dir: Path
    plan: RunPlan
    state: RunState
    result: RunResult | None
    in_plan: bool
    """Whether the study's current plan still contains this run."""

    def events(self) -> EventLog:
        return read_events(self.run_dir / "events.jsonl")


def save_plan_order(study_dir: Path, run_ids: Sequence[str]) -> None:
    """Record which runs the current plan consists of, in the order they were planned."""
    write_json_atomic(study_dir / "plan.json", {"run_ids": list(run_ids)})


def load_study(study_dir: Path) -> list[RunRecord]:
    """All runs of a study: those of the current plan in plan order, then others by name."""
    if not study_dir.is_dir():
        raise UserError(f"study directory {study_dir} does not exist; scaling.launch makes it as RUNS/<study>")
    plan_path = study_dir / "plan.json"
    planned: list[str] = json.loads(plan_path.read_text())["run_ids"] if plan_path.exists() else []
    rank = {run_id: position for position, run_id in enumerate(planned)}
    folders = [path.parent for path in study_dir.glob("*/run.json")]
    if not folders:
        raise UserError(f"{study_dir} holds no runs (no */run.json); give the folder RUNS/<study> of a launched study")
    folders.sort(key=lambda folder: (rank.get(folder.name, len(rank)), folder.name))
    return [
        RunRecord(
            run_dir=folder,
            plan=RunPlan.load(folder),
            state=RunState.load(folder),
            result=RunResult.load(folder),
            in_plan=folder.name in rank or not plan_path.exists(),
        )
        for folder in folders
    ]
