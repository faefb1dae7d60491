"""What the remaining runs will cost: counted FLOPs and examples always, time only from measured runs.

The measure is training FLOPs per second of a device. A run is predicted from finished or running runs of the
same model first, then from the other models of the study, told apart as `measured` and `scaled`; with no
measurement at all there is no time, rather than a guess.
"""

import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Self

from scaling.records.run_plan import RunPlan


def train_flops(plan: RunPlan) -> float:
    """Training FLOPs of the whole run: forward and backward of every example."""
    return plan.schedule.steps * plan.schedule.batch * plan.model.flops_train_per_image


def state_bytes(plan: RunPlan) -> float:
    """Memory of one device for fp32 weights, gradients and optimiser state; activations come on top.

    Adam keeps two moments per weight and SGD one momentum; ZeRO 1 divides that state over the devices, ZeRO 2 the
    gradients too (arXiv 1910.02054).
    """
    slots = 2 if plan.recipe.optimizer == "adam" else 1
    optimizer_share = plan.engine.num_devices if plan.engine.zero_stage >= 1 else 1
    gradient_share = plan.engine.num_devices if plan.engine.zero_stage >= 2 else 1
    return 4.0 * plan.model.num_params * (1 + 1 / gradient_share + slots / optimizer_share)


class RateBook:
    """Observed FLOPs per second of wall time, per model, over evaluation and waiting too."""

    def __init__(self) -> None:
        self._rates: dict[tuple[str, int, str], list[float]] = defaultdict(list)

    def copy(self) -> Self:
        """An independent book with the same observations."""
        other = type(self)()
        for key, rates in self._rates.items():
            other._rates[key] = list(rates)
        return other

    def knows(self, plan: RunPlan) -> bool:
        """Whether this very model was observed."""
        return bool(self._rates.get(_key(plan)))

    def add(self, plan: RunPlan, flops: float, seconds: float) -> None:
        if seconds > 0 and flops > 0:
            self._rates[_key(plan)].append(flops / seconds)

    def seconds(self, plan: RunPlan, share_left: float = 1.0) -> float | None:
        """Predicted wall seconds of `share_left` of the run; None when nothing was measured."""
        own = self._rates.get(_key(plan))
        rates = own or [rate for others in self._rates.values() for rate in others]
        return train_flops(plan) * share_left / statistics.median(rates) if rates else None


def remaining_seconds(
    rates: RateBook, pending: Iterable[RunPlan], running: Sequence[tuple[RunPlan, float]], num_slots: int
) -> float | None:
    """Wall seconds until all runs are done on `num_slots` slots; `running` holds each run's share left."""
    lefts = [rates.seconds(plan, share) for plan, share in running]
    waits = [rates.seconds(plan) for plan in pending]
    known = [seconds for seconds in (*lefts, *waits) if seconds is not None]
    if len(known) < len(lefts) + len(waits):
        return None
    if not known:
        return 0.0
    return max(sum(known) / num_slots, max(known))


def _key(plan: RunPlan) -> tuple[str, int, str]:
    return plan.model.name, plan.model.image_size, plan.recipe.precision
