"""How sure a measured coverage or error is, when what was measured falls into few independent units.

The held-out rows of a model are checkpoints of one training run, and its shot counts are read off the same
checkpoints: they miss together. What can be resampled is the model, and standard errors are those of a bootstrap over
such units, in closed form.
"""

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


def coverage_of(covered: Array, units: Array, num_rows: Array) -> Coverage:
    """The mean of `covered` [N], the shares of rows that intervals hold on each curve, with a LEVEL interval.

    `units` [N] are labels, `num_rows` [N] the rows of each curve. The interval is that of Clopper and Pearson at the
    effective number of rows (Korn and Graubard, Survey Methodology 24:193, 1998): so many independent rows have the
    standard error seen between units, after a correction for its few degrees of freedom. The number is no more than
    that of rows, and no less than that of units, as if each hit or missed as a whole; this is also taken where units do
    not differ, which tells nothing of how they would.
    """
    share, num_units = float(np.mean(covered)), len(set(units))
    error = standard_error(covered, units)
    effective = float(num_units)
    if error > 0:
        few = float(norm.ppf((1 + LEVEL) / 2) / t.ppf((1 + LEVEL) / 2, num_units - 1)) ** 2
        effective = float(np.clip(share * (1 - share) / error**2 * few, num_units, np.sum(num_rows)))
    hits, misses, tail = share * effective, (1 - share) * effective, (1 - LEVEL) / 2
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
