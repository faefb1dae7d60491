"""From ended runs to the rate that is taken and the score: pure functions of their records.

All that was tried is kept as rows of the score's record, with what each rate reached on the held-out images. A rate at
which training diverged is an answer, and the rate is not taken; a run that ended for another reason is no answer.
"""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from scaling.evals.describe import describe_evaluation
from scaling.plan.finetune.planner import FineTuning
from scaling.records.evaluation import Evaluation
from scaling.records.result import RunResult
from scaling.records.run_plan import RunPlan
from scaling.records.study import RunRecord

Row = dict[str, Any]
"""One run of a fine-tuning: a plain mapping that JSON can hold."""


def tried(trials: Mapping[float, RunPlan], records: Mapping[str, RunRecord]) -> list[Row]:
    """A row per rate; one that diverged has no score."""
    rows = []
    for rate, plan in trials.items():
        result = records[plan.run_id].result
        metrics = result.metrics if result is not None else {}
        rows.append(
            {
                "role": "trial",
                "run_id": plan.run_id,
                "learning_rate": rate,
                "seed": plan.seed,
                "train_images": plan.subset.num_samples,
                "dev_images": plan.dev.num_samples if plan.dev is not None else plan.val.num_samples,
                "dev_top1": metrics.get("upstream/precision_at_1"),
                "dev_loss": metrics.get("upstream/loss"),
                "diverged": result is None,
                "taken": False,
            }
        )
    return rows


def take_best(rows: Sequence[Row]) -> tuple[float | None, list[Row]]:
    """The rate with the best held-out top-1, of equal ones that with the lower loss and then the lower rate, and the
    rows with it marked; None where every rate diverged."""
    scored = [row for row in rows if row["dev_top1"] is not None]
    if not scored:
        return None, list(rows)
    best = min(scored, key=lambda row: (-row["dev_top1"], row["dev_loss"], row["learning_rate"]))
    return best["learning_rate"], [row | {"taken": row is best} for row in rows]


def conclude(
    job: FineTuning, tried_rows: Sequence[Row], finals: Mapping[int, RunPlan], records: Mapping[str, RunRecord]
) -> Evaluation | None:
    """The record: the mean over seeds, and all runs that led to it; None while a seed has no result."""
    results: dict[int, RunResult] = {}
    for seed, plan in finals.items():
        result = records[plan.run_id].result
        if result is None:
            return None
        results[seed] = result
    rows: list[Row] = [
        {
            "role": "final",
            "run_id": finals[seed].run_id,
            "learning_rate": finals[seed].recipe.learning_rate,
            "seed": seed,
            "train_images": finals[seed].subset.num_samples,
            "top1": result.metrics["upstream/precision_at_1"],
            "loss": result.metrics["upstream/loss"],
            "seconds": result.train_seconds + result.pause_seconds,
            "device": result.device,
        }
        for seed, result in results.items()
    ]
    name, trained = job.evaluation.name, job.trained
    first = next(iter(results.values()))
    start = next(iter(finals.values())).start
    assert start is not None
    return Evaluation(
        run_id=trained.run_id,
        identity=trained.identity,
        **describe_evaluation(job.evaluation),
        weights_sha256=start.sha256,
        metrics={
            f"{name}/top1": statistics.fmean(row["top1"] for row in rows),
            f"{name}/loss": statistics.fmean(row["loss"] for row in rows),
        },
        rows=(*tried_rows, *rows),
        device=first.device,
        num_devices=first.num_devices,
        precision=first.precision,
        threads=first.threads,
        hardware=first.hardware,
        packages=first.packages,
        version=trained.version,
        git_commit=first.git_commit,
        git_dirty=first.git_dirty,
        seconds=sum(row["seconds"] for row in rows),
        unix_time=max(_ended(record) for record in records.values()),
    )


def _ended(record: RunRecord) -> float:
    """When a run's last attempt ended."""
    last = record.standing.ends.last
    return last.unix_time if last is not None else 0.0
