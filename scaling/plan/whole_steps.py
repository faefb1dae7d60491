"""What rounding to whole steps does to the runs of a study, told once where it is more than 5 %.

A protocol promises equal passes, equal examples or equal compute; where runs have few steps it cannot keep that.
"""

import logging
import math
from collections import defaultdict
from collections.abc import Sequence

from scaling.plan.plan_schedule import examples_of, length_of, place_of_protocol, rounded_up
from scaling.records.run_plan import RunPlan
from scaling.spec.document import Document
from scaling.spec.study import ConstantEpochs, ConstantSteps, MatchedCompute
from scaling.spec.sweep import RunSpec

logger = logging.getLogger(__name__)

TOLERANCE = 0.05
"""Share of a run's length or cost that passes without a word."""


def warn_of_rounding(specs: Sequence[RunSpec], plans: Sequence[RunPlan], document: Document) -> None:
    """Warn, once, of runs whose length is not what is written, and once of runs of one budget that do not cost the
    same."""
    runs = list(zip(specs, plans, strict=True))
    _warn_of_lengths(runs, document)
    _warn_of_costs(runs, document)


def _warn_of_lengths(runs: Sequence[tuple[RunSpec, RunPlan]], document: Document) -> None:
    """Epochs and examples; steps are whole as they are written."""
    found: list[tuple[float, float, RunSpec, RunPlan]] = []
    for spec, plan in runs:
        if isinstance(spec.protocol, ConstantSteps | ConstantEpochs):
            written = examples_of(length_of(spec.protocol), plan.schedule.batch, plan.subset.num_samples)
            real = plan.schedule.steps * plan.schedule.batch
            if abs(real - written) > TOLERANCE * written:
                found.append((abs(math.log(real / written)), written, spec, plan))
    if not found:
        return
    _, written, spec, plan = max(found, key=lambda one: one[0])
    length = length_of(spec.protocol)
    real_amount = length.amount * plan.schedule.steps * plan.schedule.batch / written
    # Rounding moves a run by half a step at most.
    enough = int(2 * TOLERANCE * min(examples for _, examples, _, _ in found))
    logger.warning(
        "%s; %s",
        document.error(
            place_of_protocol(spec, "steps" if isinstance(spec.protocol, ConstantSteps) else "epochs", document),
            f"whole steps of batch {plan.schedule.batch:,} give {plan.run_id} {real_amount:.4g} {length.unit} where "
            f"{length.amount:.4g} are written{_others(len(found) - 1)}",
        ),
        f"take a batch of {enough:,} or less, or longer runs" if enough else "take longer runs",
    )


def _others(count: int) -> str:
    return f", and {count:,} more run{'s differ' if count > 1 else ' differs'} by over 5 %" if count else ""


def _warn_of_costs(runs: Sequence[tuple[RunSpec, RunPlan]], document: Document) -> None:
    """Of all budgets the one whose runs are furthest apart."""
    budgets: dict[float, list[tuple[float, RunSpec, RunPlan]]] = defaultdict(list)
    for spec, plan in runs:
        if isinstance(spec.protocol, MatchedCompute):
            cost = plan.train_flops(plan.schedule.steps * plan.schedule.batch)
            budgets[spec.protocol.train_flops].append((cost, spec, plan))
    found = []
    for budget, priced in budgets.items():
        low, high = min(priced, key=lambda one: one[0]), max(priced, key=lambda one: one[0])
        if high[0] > (1 + TOLERANCE) * low[0]:
            found.append((high[0] / low[0], budget, low, high))
    if not found:
        return
    _, budget, (low_cost, spec, low_plan), (high_cost, _, high_plan) = max(found, key=lambda one: one[0])
    # A run falls short of its budget by less than one step.
    steps = 1 + 1 / TOLERANCE
    dearest = max(plan.model.flops_train_per_image for _, _, plan in budgets[budget])
    batch = max(plan.schedule.batch for _, _, plan in budgets[budget])
    enough = int(budget / (steps * dearest))
    logger.warning(
        "%s",
        document.error(
            place_of_protocol(spec, "train_flops", document),
            f"whole steps leave the runs of {budget:.4g} FLOPs unequal: {low_plan.run_id} costs {low_cost:.4g} and "
            f"{high_plan.run_id} {high_cost:.4g}{_others_of_budgets(len(found) - 1)}; take a budget of "
            f"{rounded_up(steps * dearest * batch)} or more"
            + (f", or a batch of {enough:,} or less" if enough else ""),
        ),
    )


def _others_of_budgets(count: int) -> str:
    return f", and those of {count:,} more budget{'s' if count > 1 else ''}" if count else ""
