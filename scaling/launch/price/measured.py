"""Rates of the runs that were finished before, read from the results folder; what cannot be read is passed over."""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from scaling.errors import UserError
from scaling.launch.price.forecast import RateBook
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
