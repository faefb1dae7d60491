"""What a plan says of every optimiser step: how the global batch is cut into passes, and the learning rate.

Global batch = processes x micro-batch x accumulation. The rate has a linear warm-up, then a linear, cosine or no decay
(Mixer, Section 3), or a staircase (BiT, Section 3.3).
"""

import math
from dataclasses import dataclass

from scaling.errors import UserError
from scaling.records.run_plan import RecipePlan, SchedulePlan


@dataclass(frozen=True, slots=True)
class Batching:
    """How one rank works through its share of the global batch."""

    world: int
    share: int
    """Examples of a global batch that one rank takes."""
    micro_batch: int
    """Examples of one forward and backward pass."""
    accumulation: int
    """Passes per optimiser step."""


def plan_batching(batch: int, world: int, max_micro_batch: int, *, in_pairs: bool = False) -> Batching:
    """Cut a global batch for `world` processes, with the largest micro-batch up to `max_micro_batch`.

    The number of processes may differ from the planned one after a restart; what must hold is that every step
    consumes exactly the global batch, and that pairs of it (`in_pairs`, for mixup) stay on one process.
    """
    workable = [n for n in range(1, batch + 1) if batch % (2 * n if in_pairs else n) == 0]
    if world not in workable:
        raise UserError(
            f"a global batch of {batch}{' in pairs (mixup)' if in_pairs else ''} does not divide over {world} "
            "processes; start one of " + ", ".join(map(str, workable))
        )
    share = batch // world
    micro_batch = max(size for size in range(1, min(max_micro_batch, share) + 1) if share % size == 0)
    return Batching(world, share, micro_batch, share // micro_batch)


def learning_rate_at(step: int, schedule: SchedulePlan, recipe: RecipePlan) -> float:
    """Learning rate of the optimiser step number `step`, counted from 1 to `schedule.steps`.

    The last warm-up step reaches the peak and the last step of all reaches `end_learning_rate`.

    With the step counted from 0 this is big_vision's schedule one step later: there the first step has a rate of 0. A
    cosine ends at `end_learning_rate` too, which big_vision's does at 0.
    """
    if step <= schedule.warmup_steps:
        return recipe.learning_rate * step / schedule.warmup_steps
    if schedule.decay == "staircase":
        return recipe.learning_rate * schedule.decay_factor ** sum(step > edge for edge in schedule.decay_steps)
    progress = (step - schedule.warmup_steps) / (schedule.steps - schedule.warmup_steps)
    remaining = {
        "linear": 1.0 - progress,
        "cosine": 0.5 * (1.0 + math.cos(math.pi * progress)),
        "constant": 1.0,
    }[schedule.decay]
    return recipe.end_learning_rate + (recipe.learning_rate - recipe.end_learning_rate) * remaining
