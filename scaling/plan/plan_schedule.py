"""A run's protocol and durations turned into optimiser steps.

A length given in steps, examples or epochs becomes the nearest whole number of steps; a budget of training FLOPs is
rounded down, so that it is not exceeded. Lengths that do not fit into the run are refused where they were written.
"""

from scaling.records.run_plan import SchedulePlan
from scaling.spec.document import Document
from scaling.spec.duration import Duration
from scaling.spec.settings import RunSettings
from scaling.spec.study import ConstantEpochs, ConstantSteps
from scaling.spec.sweep import RunSpec

MAX_EXAMPLES = 10**18
"""Positions in the data order are 64-bit numbers."""


def plan_schedule(spec: RunSpec, num_samples: int, flops_train_per_image: float, document: Document) -> SchedulePlan:
    """The schedule of one run on `num_samples` distinct images."""
    protocol, settings = spec.protocol, spec.settings
    batch = protocol.batch
    if isinstance(protocol, ConstantSteps):
        if protocol.steps.unit == "percent":
            raise document.error(("protocol", "steps"), "a percentage of what? write a number of steps")
        steps = protocol.steps.to_steps(batch=batch, num_samples=num_samples)
        if steps == 0:
            raise document.error(("protocol", "steps"), "0: a run has at least one step")
    elif isinstance(protocol, ConstantEpochs):
        steps = Duration(protocol.epochs, "epochs").to_steps(batch=batch, num_samples=num_samples)
    else:
        steps = max(1, int(protocol.train_flops / (batch * flops_train_per_image)))
    if steps * batch > MAX_EXAMPLES:
        raise document.error(
            ("protocol",),
            f"{steps:.3g} steps of batch {batch:,} are more than 10^18 examples; make the run shorter",
        )
    warmup = settings.warmup.to_steps(batch=batch, num_samples=num_samples, total_steps=steps)
    if warmup >= steps:
        raise document.error(
            ("defaults", "warmup"),
            f"{settings.warmup}: the warm-up would take {_count(warmup)} and the whole run has {_count(steps)}; make "
            "the run longer, or write the warm-up as a smaller share, for example 2%",
        )
    for name in ("validate_every", "checkpoint_every", "log_every"):
        if getattr(settings, name).amount == 0:
            raise document.error(("defaults", name), "0: an interval is above zero; for once, at the end, write 100%")
    return SchedulePlan(
        protocol=protocol.kind,
        batch=batch,
        steps=steps,
        epochs=steps * batch / num_samples,
        warmup_steps=warmup,
        decay=settings.decay,
        decay_steps=_decay_steps(settings, batch, num_samples, steps, document),
        decay_factor=settings.decay_factor if settings.decay == "staircase" else 1.0,
        patience=settings.patience,
    )


def _count(steps: int) -> str:
    return f"{steps:,} step{'' if steps == 1 else 's'}"


def _decay_steps(
    settings: RunSettings, batch: int, num_samples: int, steps: int, document: Document
) -> tuple[int, ...]:
    """Where a staircase steps down: increasing, and before the run ends."""
    if (settings.decay == "staircase") != bool(settings.decay_at):
        raise document.error(
            ("defaults", "decay_at"),
            "a staircase needs it, and no other decay takes it; write for example "
            "decay: staircase with decay_at: [30%, 60%, 90%]",
        )
    where = tuple(
        duration.to_steps(batch=batch, num_samples=num_samples, total_steps=steps) for duration in settings.decay_at
    )
    if list(where) != sorted(set(where)) or any(step >= steps for step in where):
        raise document.error(
            ("defaults", "decay_at"),
            f"{', '.join(map(str, settings.decay_at))} are the steps {', '.join(map(str, where))} of a run of "
            f"{steps}; they must increase and lie before its end, so write them as shares, for example 30%",
        )
    return where
