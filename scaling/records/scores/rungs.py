"""ASHA: which trials of a search are stopped at which rung (Li et al., arXiv 1810.05934, the form that stops trials).

A *rung* is a validation at which trials are judged. Of what the trials reached so far, the verdicts are a pure
function, and never of the order in which they reached it:

    a trial is judged at a rung against the trials of its cell with *lower numbers* that reached this rung, those that
    were stopped there included; it goes on when it is at least as good as the best 1 / reduction_factor of them

So a verdict waits until every trial with a lower number has reached that rung, was stopped before it or has ended
without reaching it; meanwhile the trial trains on. One whose verdict comes only after it has ended is out all the same:
its score is not used. Therefore a search on a slow machine, on a busy one, or one whose launcher was killed and started
again chooses as any other. The cut-off is Ray Tune's (`ray.tune.schedulers.ASHAScheduler`, one bracket), to which
trials come in the order of their numbers.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scaling.records.events import read_events
from scaling.records.run_dir import RunDir


@dataclass(frozen=True, slots=True)
class Climb:
    """How far one trial has come."""

    scores: tuple[float, ...]
    """At the rungs that it has reached, lowest first, in stored units."""
    has_ended: bool
    """Whether it reaches no further ones."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of one trial."""

    stopped_at: int | None
    """Rung at which it is out, from 0; None while it is in."""
    is_final: bool
    """Whether no rung is left at which it can still be judged."""


def judge(
    climbs: Sequence[Climb], *, num_rungs: int, reduction_factor: int, higher_is_better: bool
) -> tuple[Verdict, ...]:
    """The verdict on every trial of one cell, in the order of their numbers; pure.

    A score that is no finite number is worse than any other and is no measure for those that follow.
    """
    sign = 1.0 if higher_is_better else -1.0
    stopped: list[int | None] = [None] * len(climbs)
    is_open = [False] * len(climbs)
    for rung in range(num_rungs):
        reached: list[float] = []
        is_waiting = False
        for number, climb in enumerate(climbs):
            if stopped[number] is not None:
                continue
            has_come = len(climb.scores) > rung
            if is_open[number] or (has_come and is_waiting) or not (has_come or climb.has_ended):
                # Nobody knows yet whether it counts here, so nothing is decided about those after it.
                is_open[number] = is_waiting = True
                continue
            if not has_come:
                continue
            worth = sign * climb.scores[rung]
            if reached and not worth >= _cutoff(reached, reduction_factor):
                stopped[number] = rung
            if math.isfinite(worth):
                reached.append(worth)
    return tuple(
        Verdict(rung, is_final=rung is not None or not waits) for rung, waits in zip(stopped, is_open, strict=True)
    )


def rung_steps(grace_period: int, reduction_factor: int, validate_steps: int, steps: int) -> tuple[int, ...]:
    """Optimiser steps of the rungs of a run: validations number `grace_period`, times `reduction_factor`, and so on,
    before the last one."""
    found, validation = [], grace_period
    while validation * validate_steps < steps:
        found.append(validation * validate_steps)
        validation *= reduction_factor
    return tuple(found)


def scores_at(run_dir: Path, metric: str, rungs: Sequence[int]) -> tuple[float, ...]:
    """What a run measured at the rungs (optimiser steps) that it has reached, lowest first."""
    measured = {
        event.step: event.metrics[metric]
        for event in read_events(RunDir(run_dir).events).events
        if event.kind == "eval" and metric in event.metrics
    }
    found: list[float] = []
    for step in rungs:
        if step not in measured:
            break
        found.append(measured[step])
    return tuple(found)


def mean_climb(climbs: Sequence[Climb]) -> Climb:
    """Of a trial, from those of its runs: a rung is reached when all of them have reached it."""
    columns = zip(*(climb.scores for climb in climbs), strict=False)
    scores = tuple(
        math.fsum(column) / len(column) if all(map(math.isfinite, column)) else math.nan for column in columns
    )
    return Climb(scores, any(climb.has_ended and len(climb.scores) == len(scores) for climb in climbs))


def _cutoff(reached: Sequence[float], reduction_factor: int) -> float:
    """The value at the share 1 - 1 / reduction_factor of the sorted values, between two of them in proportion."""
    ordered = sorted(reached)
    below, rest = divmod((len(ordered) - 1) * (reduction_factor - 1), reduction_factor)
    if not rest:
        return ordered[below]
    return ordered[below] + (ordered[below + 1] - ordered[below]) * rest / reduction_factor
