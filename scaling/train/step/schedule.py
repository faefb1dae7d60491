"""Learning rate as a function of the step: linear warm-up, then linear, cosine or no decay (Mixer, Section 3), or
a staircase (BiT, Section 3.3)."""

import math

from scaling.records.run_plan import RecipePlan, SchedulePlan


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
