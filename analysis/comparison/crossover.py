"""Where one model overtakes another: an interval, "none in range", "not identified" or "not told apart at first".

A crossover is one event: A ahead at the smallest common size and B ahead at the largest (or at the end of the
search). Inside the measured sizes the differences are drawn from the Student-t distributions of
`analysis.comparison.compare`, so that P(ahead) at a size is that of every other table, and the crossing is interpolated
in log size. Beyond them the laws are followed for at most two doublings: crossings further out are not predictable,
and nothing is said about them.
"""

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pandas as pd
from scipy.special import chdtri

from analysis.comparison.compare import Difference, differences_by_size, values_by_model, widened
from analysis.comparison.noise_apart import NoiseApart
from analysis.laws.forms import Array
from analysis.laws.law import Law
from analysis.runs.load import Records

BEYOND = 4.0
"""The search ends at this many times the largest common size: two doublings."""
LIKELY, UNLIKELY = 0.9, 0.1
NUM_DRAWS = 2000
_STEPS_BEYOND = 9


@dataclass(frozen=True, slots=True)
class Crossover:
    """How `later` comes to overtake `earlier`, sizes in images."""

    earlier: str
    """The model with the better mean at the smallest common size."""
    later: str
    verdict: str
    """`crosses`, `none in range`, `not identified` or `not told apart at first`."""
    size: float
    """Median crossing size over the draws with `earlier` ahead at first; NaN without a crossing."""
    low: float
    high: float
    """90 % interval; `high` is infinite when some draws do not cross by the end of the search."""
    p_earlier_at_first: float
    """P(earlier is ahead at the smallest common size)."""
    p_later_at_last: float
    """P(later is ahead at the largest common size)."""
    p_crossed_in_data: float
    """P(both)."""
    p_crossed_by_end: float
    """P(earlier is ahead at first and later at the end of the search)."""
    end: float
    """End of the search."""


def crossovers(records: Records, metric: str, laws: Mapping[str, Law]) -> pd.DataFrame:
    """Every pair of models that have a law, ordered so that `earlier` leads at the smallest common size."""
    runs = records.runs[records.runs[metric].notna()]
    values, unit_sizes = values_by_model(runs, metric)
    direction, noise = records.metric(metric).direction, NoiseApart(records, metric)
    rows = []
    for first, second in itertools.combinations(laws, 2):
        differences = differences_by_size(values[first], values[second], unit_sizes)
        if len(differences) < 2:
            continue
        if direction * differences[0][1].mean < 0:
            first, second = second, first
            differences = differences_by_size(values[first], values[second], unit_sizes)
        if noise.is_apart(first, second):
            differences = [(size, widened(found, noise.error(first, second, size))) for size, found in differences]
        found = crossover((first, second), (laws[first], laws[second]), differences, direction)
        rows.append({name: getattr(found, name) for name in Crossover.__slots__})
    return pd.DataFrame(rows, columns=list(Crossover.__slots__))


def crossover(
    names: tuple[str, str], laws: tuple[Law, Law], differences: list[tuple[float, Difference]], direction: float
) -> Crossover:
    """`names`: who is ahead at first, and the other; `differences` between them in that order at their common sizes,
    ascending. `direction` is that of the metric."""
    sizes = np.array([size for size, _ in differences], dtype=float)
    beyond = sizes[-1] * np.geomspace(1.0, BEYOND, _STEPS_BEYOND)[1:]
    behind, ahead = (law.draws.log_mean_curve(np.concatenate([sizes[-1:], beyond])) for law in laws)
    after = behind - ahead
    shared = np.array([difference.evaluation_error for _, difference in differences])
    if shared.any():
        after = after + _common_draws(len(after))[:, None] * shared[-1] / _mean_error(laws, sizes[-1:])
    if all(math.isfinite(difference.standard_error) for _, difference in differences):
        in_data = -direction * _difference_draws([difference for _, difference in differences])
        after = _aligned(after, in_data[:, -1])
        p_first, p_last = (_p_ahead(differences[place][1], direction) for place in (0, -1))
        p_last = 1 - p_last
    else:  # one seed: the run spread that the laws lean on
        in_data = _mean_draws(laws[0], sizes) - _mean_draws(laws[1], sizes)
        in_data = in_data + _common_draws(len(in_data))[:, None] * shared / _mean_error(laws, sizes)
        p_first, p_last = float(np.mean(in_data[:, 0] <= 0)), float(np.mean(in_data[:, -1] > 0))
    gap = np.concatenate([in_data, after[:, 1:]], axis=1)
    grid = np.concatenate([sizes, beyond])
    led = gap[:, 0] <= 0
    # Finitely many draws must not make both events likelier than one of them.
    in_range = min(float(np.mean(led & (in_data[:, -1] > 0))), p_first, p_last)
    by_end = min(float(np.mean(led & (gap[:, -1] > 0))), p_first)
    verdict = "not identified"
    if p_first < LIKELY:
        verdict = "not told apart at first"
    elif max(by_end, in_range) <= UNLIKELY:
        verdict = "none in range"
    elif max(by_end, in_range) >= LIKELY:
        verdict = "crosses"
    size, low, high = math.nan, math.nan, math.nan
    crossing = last_crossings(gap[led], grid)
    if verdict in ("crosses", "not identified") and np.isfinite(crossing).any():
        size = float(np.quantile(crossing, 0.5, method="lower")) if verdict == "crosses" else math.nan
        low, high = (float(np.quantile(crossing, q, method="lower")) for q in (0.05, 0.95))
    return Crossover(*names, verdict, size, low, high, p_first, p_last, in_range, by_end, float(grid[-1]))


def last_crossings(gap: Array, grid: Array) -> Array:
    """[B] sizes at which each row of `gap` [B, K] (earlier's lag behind later) turns positive for good; infinity where
    it ends at or below 0."""
    below = gap <= 0
    left = below.shape[1] - 1 - np.argmax(below[:, ::-1], axis=1)
    ends_below, never = below[:, -1], ~below.any(axis=1)
    left = np.where(ends_below | never, 0, left)
    rows = np.arange(len(gap))
    before, behind = gap[rows, left], gap[rows, left + 1]
    rise = np.where(ends_below | never, 1.0, behind - before)
    place = np.log(grid[left]) - before / rise * (np.log(grid[left + 1]) - np.log(grid[left]))
    crossing = np.where(never, grid[0], np.exp(place))
    return np.asarray(np.where(ends_below, np.inf, crossing))


def _p_ahead(difference: Difference, direction: float) -> float:
    return difference.p_positive if direction > 0 else 1 - difference.p_positive


def _difference_draws(differences: list[Difference]) -> Array:
    """[NUM_DRAWS, K] draws of the true difference at each size; the spread that sizes share is drawn once."""
    columns = []
    for place, difference in enumerate(differences):
        normal, spread = _standard_draws(len(differences), difference.freedom)
        columns.append(difference.mean + difference.standard_error * spread * normal[:, place])
    shared = np.array([difference.evaluation_error for difference in differences])
    return np.stack(columns, axis=1) + _common_draws(NUM_DRAWS)[:, None] * shared


def _common_draws(number: int) -> Array:
    """[number] normal numbers that all sizes share: the noise of two evaluations that differ."""
    return np.random.default_rng(1).standard_normal(number)


def _mean_error(laws: tuple[Law, Law], sizes: Array) -> Array:
    """[K] measured error at each size, the geometric mean of both models."""
    return np.exp(np.mean([[np.log(law.y[law.x == size]).mean() for size in sizes] for law in laws], axis=0))


@lru_cache(maxsize=64)
def _standard_draws(num_sizes: int, freedom: float) -> tuple[Array, Array]:
    """[NUM_DRAWS, K] normal numbers, and [NUM_DRAWS] ratios of the true spread to the measured one: the same for every
    pair of models, because all draws begin at one seed."""
    rng = np.random.default_rng(0)
    normal = rng.standard_normal((NUM_DRAWS, num_sizes))
    uniform = rng.permutation((np.arange(NUM_DRAWS) + 0.5) / NUM_DRAWS)
    return normal, np.sqrt(freedom / chdtri(freedom, 1 - uniform))


def _aligned(after: Array, last: Array) -> Array:
    """[NUM_DRAWS, K] rows of `after` [B, K], repeated and put in the order of `last`: a draw in which `later` does well
    at the largest size is continued by a law draw in which it does well there (the first column)."""
    order = np.argsort(after[:, 0], kind="stable")
    rank = np.empty(len(last), dtype=int)
    rank[np.argsort(last, kind="stable")] = np.arange(len(last)) * len(after) // len(last)
    return np.asarray(after[order][rank])


def _mean_draws(law: Law, sizes: Array) -> Array:
    """[B, K] draws of the log of the mean error at measured sizes."""
    shaken = np.log(law.y) + law.draws.run_log_sd[:, None] * law.draws.run_noise
    columns = [shaken[:, law.x == size].mean(axis=1) for size in sizes]
    return np.stack(columns, axis=1)
