"""How sure a measured coverage or error is, when what was measured falls into few independent units.

The held-out rows of a model are checkpoints of one training run, and its shot counts are read off the same
checkpoints: they miss together. What can be resampled is the model, and standard errors are those of a bootstrap over
such units, in closed form.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import beta, norm, t

from analysis.laws.forms import Array

LEVEL = 0.90
GOAL = (0.85, 0.95)


@dataclass(frozen=True, slots=True)
class Coverage:
    """A coverage with its LEVEL interval."""

    share: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """Whether the coverage lies in GOAL: "yes" or "no" where the whole interval says so, else "open"."""
        if self.high < GOAL[0] or self.low > GOAL[1]:
            return "no"
        return "yes" if self.low >= GOAL[0] and self.high <= GOAL[1] else "open"


def rows_per_unit(cells: Sequence[tuple[Array, Array]]) -> float:
    """How many independent rows one unit is worth, at least 1, from cells (shares covered [N], units [N]).

    The variance of coverage between units over that of independent rows, summed over cells: a single cell where every
    unit holds tells nothing of how units differ. Its few degrees of freedom are paid for as in the interval of Korn and
    Graubard (Survey Methodology 24:193, 1998).
    """
    between, independent, labels = 0.0, 0.0, set()
    for covered, units in cells:
        share, num_units = float(np.mean(covered)), len(set(units))
        if num_units > 1:
            between += num_units * standard_error(covered, units) ** 2
            independent += share * (1 - share)
            labels |= set(units)
    if between <= 0:
        return 1.0
    tail = (1 + LEVEL) / 2
    few = float(norm.ppf(tail) / t.ppf(tail, len(labels) - 1)) ** 2
    return max(1.0, few * independent / between)


def coverage_of(covered: Array, units: Array, worth: float) -> Coverage:
    """The mean of `covered` [N], the shares of rows that intervals hold on each curve, with a LEVEL interval.

    The interval is that of Clopper and Pearson for `worth` independent rows (`rows_per_unit`) of each unit in `units`
    [N]. It says what further models would show that differ as much as all of these do.
    """
    share, rows, tail = float(np.mean(covered)), worth * len(set(units)), (1 - LEVEL) / 2
    hits, misses = share * rows, (1 - share) * rows
    low = float(beta.ppf(tail, hits, misses + 1)) if hits > 0 else 0.0
    high = float(beta.ppf(1 - tail, hits + 1, misses)) if misses > 0 else 1.0
    return Coverage(share, low, high)


def standard_error(values: Array, units: Array) -> float:
    """Standard error of the mean of `values` [N] with independent `units` [N]; 0 for one unit, which tells none."""
    labels: list[Any] = sorted(set(units))
    if len(labels) < 2:
        return 0.0
    off = np.asarray(values, dtype=float) - np.mean(values)
    sums = np.array([off[np.asarray(units) == label].sum() for label in labels])
    return float(np.sqrt(len(labels) / (len(labels) - 1) * np.sum(sums**2)) / len(off))
