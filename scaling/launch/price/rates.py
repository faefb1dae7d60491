"""Measured rates of runs: of finished ones, read from the results folder, passing over what cannot be read; and of
running ones, seen from outside by the steps between two looks and the wall time between them."""

import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from scaling.errors import UserError
from scaling.launch.price.forecast import RateBook, train_flops
from scaling.launch.progress import Running
from scaling.launch.study_dir import PlannedRun
from scaling.records.evaluation import current_evaluations
from scaling.records.result import RunResult
from scaling.records.run_plan import RunPlan

MAX_RUNS = 100
"""Of other studies; more would tell nothing new and cost time."""


def rates_of(runs: Iterable[PlannedRun]) -> RateBook:
    """What the finished ones of these runs took."""
    rates = RateBook()
    for run in runs:
        learn(rates, run)
    return rates


def learn(rates: RateBook, run: PlannedRun) -> None:
    """Add what a run took, when it is trained."""
    result = run.standing.result
    if result is not None:
        rates.add_result(run.plan, result)
        for record in current_evaluations(run.run_dir, result, run.plan.evals).values():
            rates.add_evaluation(run.plan, record)


def measured_rates(out: Path, runs: Sequence[PlannedRun]) -> RateBook:
    """Rates of the finished runs of this study, or, while it has none, of others in the results folder."""
    rates = rates_of(runs)
    if rates.device:
        return rates
    for path in sorted(out.glob("*/*/result.json"))[:MAX_RUNS]:
        with suppress(UserError):
            plan = RunPlan.load(path.parent)
            result = RunResult.load(path.parent, plan)
            if result is not None:
                rates.add_result(plan, result)
                for record in current_evaluations(path.parent, result, plan.evals).values():
                    rates.add_evaluation(plan, record)
    return rates


TELLING_SHARE = 0.1
"""A run tells its model's rate once so much of it was seen; before, a slow first step weighs too much."""


@dataclass(frozen=True, slots=True)
class _Sight:
    attempt: int
    step: int
    seconds: float


class LiveRates:
    """First sight of every attempt that is seen stepping."""

    def __init__(self) -> None:
        self._first: dict[str, _Sight] = {}

    def look(self, rates: RateBook, plan: RunPlan, running: Running) -> None:
        """Add to `rates` what a running run shows, when it shows enough and its model is not known yet.

        Only steps made since the first look count, so the part that an earlier attempt made is never taken for speed.
        """
        if not running.step or running.phase:
            return
        now = time.monotonic()
        first = self._first.get(plan.run_id)
        if first is None or first.attempt != running.attempt:
            self._first[plan.run_id] = _Sight(running.attempt, running.step, now)
            return
        share = (running.step - first.step) / plan.schedule.steps
        if share >= TELLING_SHARE and not rates.knows(plan):
            rates.add(
                plan,
                device=rates.device or "these devices",
                num_devices=plan.engine.num_devices,
                flops=train_flops(plan) * share,
                seconds=now - first.seconds,
            )
