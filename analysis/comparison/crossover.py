"""Where one model overtakes another: an interval, "none in range", or "not identified".

Inside the measured sizes the difference of the means (drawn with the paired run spread) is followed from size to
size, and the crossing is interpolated in log size. Beyond them the laws go on, at most two doublings: crossings
further out are not predictable, and nothing is said about them.
"""

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.laws.forms import Array
from analysis.laws.law import Law

BEYOND = 4.0
"""The search ends at this many times the largest common size: two doublings."""
LIKELY, UNLIKELY = 0.9, 0.1
_STEPS_BEYOND = 9


@dataclass(frozen=True, slots=True)
class Crossover:
    """How `later` comes to overtake `earlier`, sizes in images."""

    earlier: str
    later: str
    verdict: str
    """`crosses`, `none in range` or `not identified`."""
    size: float
    """Median crossing size over the draws that cross; NaN when none is told."""
    low: float
    high: float
    """90 % interval; `high` is infinite when some draws do not cross by the end of the search."""
    p_crossed_in_data: float
    """P(later is ahead at the largest common size)."""
    p_crossed_by_end: float
    end: float
    """End of the search."""


def crossovers(laws: Mapping[str, Law]) -> pd.DataFrame:
    """Every pair of models that have a law, ordered so that `earlier` leads at the smallest common size."""
    rows = []
    for first, second in itertools.combinations(laws, 2):
        found = crossover(first, laws[first], second, laws[second])
        if found is not None:
            rows.append({name: getattr(found, name) for name in Crossover.__slots__})
    return pd.DataFrame(rows, columns=list(Crossover.__slots__))


def crossover(first: str, law_a: Law, second: str, law_b: Law) -> Crossover | None:
    """None when the models share fewer than two sizes."""
    sizes = np.intersect1d(law_a.x, law_b.x)
    if len(sizes) < 2:
        return None
    beyond = sizes[-1] * np.geomspace(1.0, BEYOND, _STEPS_BEYOND)[1:]
    in_data = _mean_draws(law_a, sizes) - _mean_draws(law_b, sizes)
    after = law_a.draws.log_mean_curve(beyond) - law_b.draws.log_mean_curve(beyond)
    gap = np.concatenate([in_data, after], axis=1)
    earlier, later = first, second
    if np.median(gap[:, 0]) > 0:
        gap, earlier, later = -gap, second, first
    grid = np.concatenate([sizes, beyond])
    crossing = np.array([_last_crossing(row, grid) for row in gap])
    ahead_in_data = float(np.mean(gap[:, len(sizes) - 1] > 0))
    ahead_by_end = float(np.mean(gap[:, -1] > 0))
    finite = np.isfinite(crossing)
    verdict = "not identified"
    if ahead_by_end <= UNLIKELY and ahead_in_data <= UNLIKELY:
        verdict = "none in range"
    elif max(ahead_by_end, ahead_in_data) >= LIKELY:
        verdict = "crosses"
    size, low, high = math.nan, math.nan, math.nan
    if verdict != "none in range" and finite.any():
        size = float(np.quantile(crossing, 0.5, method="lower")) if verdict == "crosses" else math.nan
        low, high = (float(np.quantile(crossing, q, method="lower")) for q in (0.05, 0.95))
    return Crossover(earlier, later, verdict, size, low, high, ahead_in_data, ahead_by_end, float(grid[-1]))


def _mean_draws(law: Law, sizes: Array) -> Array:
    """[B, K] draws of the log of the mean error at measured sizes."""
    shaken = np.log(law.y) + law.draws.run_log_sd[:, None] * law.draws.run_noise
    columns = [shaken[:, law.x == size].mean(axis=1) for size in sizes]
    return np.stack(columns, axis=1)


def _last_crossing(gap: Array, grid: Array) -> float:
    """Size at which the gap (log error of earlier minus later) turns positive for good; infinity if it ends below 0."""
    if gap[-1] <= 0:
        return math.inf
    below = np.flatnonzero(gap <= 0)
    if not len(below):
        return float(grid[0])
    left = int(below[-1])
    share = -gap[left] / (gap[left + 1] - gap[left])
    return float(np.exp(np.log(grid[left]) + share * np.log(grid[left + 1] / grid[left])))
