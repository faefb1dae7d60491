"""How fast running runs are, seen from outside: the steps between two looks and the wall time between them."""

import time
from dataclasses import dataclass

from scaling.launch.price.forecast import RateBook, train_flops
from scaling.launch.progress import Running
from scaling.records.run_plan import RunPlan

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
