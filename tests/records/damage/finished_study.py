"""A finished study of two runs, and what every damage to it must leave as it was."""

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from analysis.runs.load import load_records
from analysis.runs.rows import read_rows
from scaling.errors import run_command
from scaling.launch.dry_run import describe_plan, plan_as_json
from scaling.launch.price.rates import measured_rates
from scaling.launch.study_dir import PlannedRun, find_standings, write_study
from scaling.plan.planner import Planner
from scaling.records.attempts.attempt import claim_attempt
from scaling.records.attempts.causes import Cause
from scaling.records.attempts.ends import End, append_end
from scaling.records.evaluation import Evaluation
from scaling.records.events import Event, EventWriter
from scaling.records.ownership.lease import Lease
from scaling.records.run_plan import RunPlan
from scaling.records.scheduler_word import RunWord, SchedulerWord
from scaling.records.state import RunState, Status
from scaling.spec.study import load_study
from scaling.status.command import main as status
from tests.support.scripted_backend import result_of
from tests.support.tiny_study import TINY_SWEEP

NUM_STEPS = 30


def finish(run_dir: Path, plan: RunPlan, accuracy: float) -> None:
    """All records of a run that went well."""
    claim_attempt(run_dir)
    with EventWriter(run_dir / "events.jsonl") as writer:
        for step in range(0, NUM_STEPS + 1, 5):
            validation = {"upstream/loss": 1.5, "upstream/precision_at_1": accuracy}
            writer.write(
                Event(
                    run_id=plan.run_id,
                    attempt=1,
                    kind="start" if not step else "eval" if step % 10 == 0 else "step",
                    step=step,
                    examples_seen=16 * step,
                    unique_examples=min(16 * step, plan.subset.num_samples),
                    flops=1.0 * step,
                    train_seconds=1.0,
                    pause_seconds=0.1,
                    device="cpu",
                    num_devices=1,
                    precision="fp32",
                    metrics={} if not step else validation if step % 10 == 0 else {"loss": 2.0},
                )
            )
    append_end(run_dir, End(attempt=1, cause=Cause.DONE, code=0, step=NUM_STEPS))
    RunState(status=Status.DONE, attempt=1, step=NUM_STEPS).save(run_dir)
    result = result_of(plan, accuracy)
    result.save(run_dir)
    evaluation_of(plan, accuracy).save(run_dir)
    lease = Lease(run_dir)
    lease.acquire(beats=False)
    left_behind = (run_dir / "lease").read_bytes()
    lease.release()
    (run_dir / "lease").write_bytes(left_behind)


def evaluation_of(plan: RunPlan, accuracy: float, **changes: Any) -> Evaluation:
    """The record of the plan's evaluation."""
    (asked,) = plan.evals
    values: dict[str, Any] = {
        "run_id": plan.run_id,
        "identity": plan.identity,
        "name": asked.name,
        "kind": asked.kind,
        "digest": asked.digest(),
        "weights_sha256": "0" * 64,
        "metrics": {f"{asked.name}/2shot_top1": accuracy},
        "device": "cpu",
        "num_devices": 1,
        "precision": "fp32",
        "threads": 1,
        "packages": {},
        "version": "0",
        "git_commit": "",
        "git_dirty": False,
        "seconds": 1.0,
    }
    return Evaluation(**values | changes)


class FinishedStudy:
    """A study of two finished runs, copied afresh for each damage."""

    def __init__(self, folder: Path, data: Path) -> None:
        self.sweep = folder / "tiny.yaml"
        self.sweep.write_text(TINY_SWEEP.format(root=json.dumps(str(data))).replace("seed: [0]", "seed: [0, 1]"))
        study, self.document = load_study(self.sweep, ())
        self.plans = Planner(study, self.document).plan()
        self.sound = folder / "sound" / "tiny"
        write_study(self.sound, self.document, self.plans)
        for plan, accuracy in zip(self.plans, (0.25, 0.75), strict=True):
            finish(self.sound / plan.run_id, plan, accuracy)
        self.victim, self.other = (plan.run_id for plan in self.plans)
        SchedulerWord(scheduler="Slurm", runs={self.other: RunWord(phase="gone", unix_time=0.0)}).save(self.sound)
        self.table = self.numbers(self.sound)

    def copy(self, out: Path) -> Path:
        shutil.copytree(self.sound, out / "tiny")
        return out / "tiny"

    def standings(self, study_dir: Path) -> list[PlannedRun]:
        return find_standings(study_dir, self.plans)

    @staticmethod
    def numbers(study_dir: Path) -> pd.DataFrame:
        """What figures and tables are made from: a row per run, and the logs."""
        records = load_records([study_dir])
        rows, _ = read_rows(records.run_dirs.values())
        logs = rows.to_pandas().groupby("run_id").agg(lambda column: tuple(column.dropna())) if rows.num_rows else None
        table = records.runs.set_index("run_id")
        return table if logs is None else table.join(logs.add_prefix("log "))


def look(study: FinishedStudy, folder: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """All commands that read a study; nothing may be raised. Returns the status of each run that is listed."""
    assert run_command(status, [str(folder)]) in (0, 1)
    capsys.readouterr()
    assert run_command(status, [str(folder), "--json"]) in (0, 1)
    listed = {row["run_id"]: row for row in json.loads(capsys.readouterr().out)}
    runs = study.standings(folder)
    rates = measured_rates(folder.parent, runs)
    assert describe_plan(runs, rates)
    assert len(json.loads("".join(plan_as_json(runs, rates)))) == 2
    return listed


def check_numbers(study: FinishedStudy, folder: Path, spoiled: set[str]) -> None:
    """Every number is that of the sound study or missing, and it is missing only where a record is spoiled."""
    found = study.numbers(folder)
    for run_id in study.table.index:
        if run_id not in spoiled:
            assert run_id in found.index
    for run_id, row in found.iterrows():
        for name, value in study.table.loc[run_id].items():
            here = row.get(name)
            is_missing = here is None or (isinstance(here, float) and pd.isna(here))
            if isinstance(value, tuple) and run_id in spoiled:
                assert is_missing or set(here) <= set(value), (name, here)
            elif not (is_missing and (run_id in spoiled or pd.isna(value))):
                assert here == value, (name, here, value)
