"""Finished studies whose truth is known (`scaling.bench.synthetic_study`), and how tests change their runs."""

from pathlib import Path
from typing import Any

from scaling.bench.synthetic_study import (
    METRIC,
    TRUTHS,
    WEIGHTS,
    Truth,
    evaluation_of,
    finish_run,
    make_plan,
    make_study,
    named,
)
from scaling.records.evaluation import Evaluation
from scaling.records.result import RunResult
from scaling.records.run_plan import RunPlan
from scaling.records.study import load_plan_order, save_plan_order

__all__ = [
    "METRIC",
    "TRUTHS",
    "WEIGHTS",
    "Truth",
    "change_run",
    "change_steps",
    "evaluation_of",
    "finish_run",
    "make_plan",
    "make_study",
]


def change_run(run_dir: Path, plan: dict[str, Any], result: dict[str, Any] | None = None) -> Path:
    """A finished run as if other fields had been planned and found; its new folder, named after its new identity."""
    old, found = RunPlan.load(run_dir), RunResult.load(run_dir)
    assert found is not None
    new = named(old.model_copy(update=plan))
    names = {"run_id": new.run_id, "identity": new.identity}
    new.save(run_dir)
    found.model_copy(update=names | (result or {})).save(run_dir)
    for asked in new.evals:
        record = Evaluation.load(run_dir, asked.name)
        assert record is not None
        record.model_copy(update=names).save(run_dir)
    order = load_plan_order(run_dir.parent)
    assert order is not None
    save_plan_order(run_dir.parent, [new.run_id if run_id == old.run_id else run_id for run_id in order])
    return run_dir.rename(run_dir.with_name(new.run_id))


def change_steps(run_dir: Path, steps: int) -> None:
    """A finished run as if it had been planned with, and had taken, so many steps."""
    plan, result = RunPlan.load(run_dir), RunResult.load(run_dir)
    assert result is not None
    batch, num_samples = plan.schedule.batch, plan.subset.num_samples
    schedule = plan.schedule.model_copy(update={"steps": steps, "epochs": steps * batch / num_samples})
    taken = {"examples_seen": steps * batch, "unique_examples": min(steps * batch, num_samples)}
    rate = steps * batch / result.train_seconds
    change_run(run_dir, {"schedule": schedule}, taken | {"steps": steps, "best_step": steps, "images_per_second": rate})
