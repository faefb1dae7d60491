"""A run's protocol and durations turned into optimiser steps.

A length given in steps, examples or epochs becomes the nearest whole number of steps; a budget of training FLOPs is
rounded down, so that it is not exceeded. Lengths that are no whole step, and those that do not fit into the run, are
refused where they were written.
"""

import logging
import math
from collections.abc import Sequence

from scaling.records.run_plan import RunPlan, SchedulePlan
from scaling.spec.document import Document, KeyPath
from scaling.spec.duration import Duration
from scaling.spec.settings import RunSettings
from scaling.spec.study import ConstantEpochs, ConstantSteps
from scaling.spec.sweep import RunSpec

logger = logging.getLogger(__name__)

MAX_EXAMPLES = 10**18
"""Positions in the data order are 64-bit numbers."""


def plan_schedule(spec: RunSpec, num_samples: int, flops_train_per_image: float, document: Document) -> SchedulePlan:
    """The schedule of one run on `num_samples` distinct images."""
    protocol, settings = spec.protocol, spec.settings
    batch = protocol.batch
    if isinstance(protocol, ConstantSteps | ConstantEpochs):
        steps = _steps_of_length(spec, num_samples, document)
    else:
        steps = _steps_of_budget(spec, flops_train_per_image, document)
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


def warn_of_idle_patience(plans: Sequence[RunPlan], document: Document) -> None:
    """Warn, once, of runs that end before their patience can be out: the first validation is the best so far, and after
    the last there is nothing to stop."""
    idle = []
    for plan in plans:
        validations = math.ceil(plan.schedule.steps / plan.intervals.validate_steps)
        if plan.schedule.patience is not None and plan.schedule.patience + 1 >= validations:
            idle.append((plan, validations))
    if not idle:
        return
    plan, validations = idle[0]
    logger.warning(
        "%s",
        document.error(
            ("defaults", "patience"),
            f"{plan.schedule.patience} can stop none of {len(idle):,} runs such as {plan.run_id}, which has "
            f"{validations:,} validation{'' if validations == 1 else 's'}; validate more often (validate_every) or "
            + (f"take {validations - 2} or less" if validations > 2 else "leave it out"),
        ),
    )


def length_of(protocol: ConstantSteps | ConstantEpochs) -> Duration:
    """The length of a run as its protocol says it."""
    return protocol.steps if isinstance(protocol, ConstantSteps) else Duration(protocol.epochs, "epochs")


def examples_of(length: Duration, batch: int, num_samples: int) -> float:
    """The training examples of a length before it is rounded to whole steps; `length` is no percentage."""
    return length.amount * {"steps": batch, "examples": 1, "epochs": num_samples}[length.unit]


def place_of_protocol(spec: RunSpec, field: str, document: Document) -> KeyPath:
    """Where a run's field of the protocol is written: on an axis, in its own entry, or under `protocol`."""
    name = f"protocol.{field}"
    if spec.place[0] == "include" and name in spec.axes:
        return (*spec.place, name)
    sections = [section for section in ("grid", "zip") if name in (document.data.get(section) or {})]
    return (sections[0], name) if sections and spec.place[0] == "grid" else ("protocol", field)


def _steps_of_length(spec: RunSpec, num_samples: int, document: Document) -> int:
    protocol, length = spec.protocol, length_of(spec.protocol)
    place = place_of_protocol(spec, "steps" if isinstance(protocol, ConstantSteps) else "epochs", document)
    if length.unit == "percent":
        raise document.error(place, "a percentage of what? write a number of steps")
    if length.amount == 0:
        raise document.error(place, "0: a run has at least one step")
    examples = examples_of(length, protocol.batch, num_samples)
    if examples < protocol.batch / 2:
        passes = length.unit == "epochs"
        told = f"{length} of a run's {num_samples:,} images are" if passes else f"{length} are"
        needed = _fewest_steps(spec.settings) * protocol.batch
        affordable = int(examples / _fewest_steps(spec.settings))
        smaller = f", or a batch of {affordable:,} or less" if affordable else ""
        raise document.error(
            place,
            f"{told} less than half a step of batch {protocol.batch:,}; give "
            f"{rounded_up(needed / num_samples) if passes else needed} {length.unit} or more{smaller}",
        )
    return length.to_steps(batch=protocol.batch, num_samples=num_samples)


def _steps_of_budget(spec: RunSpec, flops_train_per_image: float, document: Document) -> int:
    budget, batch = spec.protocol.train_flops, spec.protocol.batch
    cost = batch * flops_train_per_image
    if budget < cost:
        needed = _fewest_steps(spec.settings)
        affordable = int(budget / (needed * flops_train_per_image))
        smaller = f", or a batch of {affordable:,} or less" if affordable else ""
        raise document.error(
            place_of_protocol(spec, "train_flops", document),
            f"{budget:.4g} FLOPs are less than one step of {spec.settings.model} costs at batch {batch:,}; give "
            f"{rounded_up(needed * cost)} or more{smaller}",
        )
    return int(budget / cost)


def _fewest_steps(settings: RunSettings) -> int:
    """Of a run that can be planned: a warm-up takes a step, and has to end before the run."""
    return 2 if settings.warmup.amount else 1


def rounded_up(number: float) -> str:
    """Four digits of a positive number that are not less than it."""
    unit = 10.0 ** (math.floor(math.log10(number)) - 3)
    return f"{math.ceil(number / unit) * unit:.4g}"


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
