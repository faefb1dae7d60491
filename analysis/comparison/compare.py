"""Two models compared at matched data: the difference with a paired interval and P(better).

Differences are taken run by run where both models have the seed, so that what the seed does to both cancels; their
spread is pooled over sizes, because a size has few seeds. Without pairs the two spreads add (Welch). One seed gives a
difference without an interval, beside which the noise of the evaluations alone is told. Intervals cover the spread
between runs; where two models were scored on other test images or other support draws, also what that adds
(`analysis.comparison.noise_apart`).
"""

import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy.special import stdtr, stdtrit

from analysis.comparison.noise_apart import NoiseApart
from analysis.runs.load import Records
from analysis.runs.metrics import Array, Metric

LEVEL = 0.90
COLUMNS = [
    "matched",
    "at",
    "model_a",
    "model_b",
    "mean_a",
    "mean_b",
    "difference",
    "low",
    "high",
    "p_a_better",
    "pairs",
    "evaluation_alone",
]
"""`evaluation_alone`: half the width of a 90 % interval that holds the noise of both evaluations and nothing else, as
if the models shared nothing; NaN where it is not known, and at matched cost."""
PAIR_KEYS = ("num_images", "seed", "subset_seed")
"""Runs of two models that agree in these belong together."""
_NORMAL = 1e6
"""Degrees of freedom from which Student's t is a normal distribution."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A - B in the metric's unit with its interval; NaN bounds when the spread is unknown."""

    mean: float
    low: float
    high: float
    p_positive: float
    num_pairs: int
    """0 for unpaired runs."""
    standard_error: float = math.nan
    """Of `mean`, by the spread between runs; NaN when that is unknown."""
    freedom: float = 0.0
    """Degrees of freedom of the standard error."""
    evaluation_error: float = 0.0
    """Standard error that other test images and support draws add; common to all sizes of two models. It is part of the
    interval."""


@dataclass(frozen=True, slots=True)
class ModelValues:
    """The measured values of one model, by what pairs them with those of another."""

    at: Array
    """[N] the size of each run, ascending."""
    values: Array
    """[N]"""
    paired: Array
    """[U] the value of each unit (size and seeds) of the study, NaN where this model has no run; all NaN where a unit
    repeats, because nothing then says which runs belong together."""

    def of(self, size: float) -> Array:
        """Values of the runs at one size."""
        return self.values[self.at == size]


def at_matched_data(records: Records, metric: str) -> pd.DataFrame:
    """COLUMNS for every pair of models and every size that both have."""
    runs = records.runs[records.runs[metric].notna()]
    models = sorted(runs["model"].unique(), key=lambda model: records.models[model])
    values, unit_sizes = values_by_model(runs, metric)
    measure, noise = records.metric(metric), NoiseApart(records, metric)
    rows: list[dict[str, object]] = []
    for first, second in itertools.combinations(models, 2):
        a, b = values[first], values[second]
        for size, plain in differences_by_size(a, b, unit_sizes):
            difference = widened(plain, noise.error(first, second, size))
            means = (float(np.mean(a.of(size))), float(np.mean(b.of(size))))
            alone = noise.alone(first, second, size)
            rows.append(row_of("images", size, (first, second), means, difference, measure, alone))
    return pd.DataFrame(rows, columns=COLUMNS)


def row_of(
    matched: str,
    at: float,
    models: tuple[str, str],
    means: tuple[float, float],
    difference: Difference,
    metric: Metric,
    evaluation_alone: float = math.nan,
) -> dict[str, object]:
    """One row of COLUMNS; of a loss, the lower is the better."""
    p_better = difference.p_positive if metric.direction > 0 else 1 - difference.p_positive
    interval = (difference.mean, difference.low, difference.high)
    values = (matched, at, *models, *means, *interval, p_better, difference.num_pairs, evaluation_alone)
    return dict(zip(COLUMNS, values, strict=True))


def values_by_model(
    runs: pd.DataFrame, metric: str, keys: Iterable[str] = PAIR_KEYS
) -> tuple[dict[str, ModelValues], Array]:
    """The values of each model, and the size [U] of each unit, ascending; `keys` are what pairs runs, the size first.

    `runs` hold no missing value of the metric.
    """
    keys = [name for name in keys if name in runs]
    units = runs[keys].drop_duplicates().sort_values(keys).reset_index(drop=True)
    place = pd.MultiIndex.from_frame(units)
    found = {}
    for model, rows in runs.groupby("model", sort=False):
        ordered = rows.sort_values(keys[0], kind="stable")
        positions = place.get_indexer(pd.MultiIndex.from_frame(rows[keys]))
        paired = np.full(len(units), np.nan)
        if len(set(positions)) == len(positions):
            paired[positions] = rows[metric].to_numpy(float)
        found[str(model)] = ModelValues(ordered[keys[0]].to_numpy(), ordered[metric].to_numpy(float), paired)
    return found, units[keys[0]].to_numpy()


def differences_by_size(a: ModelValues, b: ModelValues, unit_sizes: Array) -> list[tuple[float, Difference]]:
    """A - B at each common size, ascending, the spread of the pairs pooled over all common sizes."""
    gap = a.paired - b.paired
    both = ~np.isnan(gap)
    gap, sizes = gap[both], unit_sizes[both]
    by_size = {size.item(): gap[sizes == size] for size in np.unique(sizes)}
    freedom = len(gap) - len(by_size)
    square = sum(float(((here - here.mean()) ** 2).sum()) for here in by_size.values())
    spread = math.sqrt(square / freedom) if freedom else math.nan
    found = []
    for size in np.intersect1d(a.at, b.at).tolist():
        here = by_size.get(size)
        if here is None:
            found.append((size, _unpaired(a.of(size), b.of(size))))
        else:
            error = spread / math.sqrt(len(here))
            found.append((size, difference_from(float(here.mean()), error, freedom, len(here))))
    return found


def widened(difference: Difference, evaluation_error: float) -> Difference:
    """With a further, normal error of known size; the degrees of freedom of both together are Satterthwaite's."""
    error, freedom = difference.standard_error, difference.freedom
    if not evaluation_error or math.isnan(error):
        return replace(difference, evaluation_error=evaluation_error)
    total = math.hypot(error, evaluation_error)
    shared = min(freedom * (total / error) ** 4, _NORMAL) if error else _NORMAL
    both = difference_from(difference.mean, total, shared, difference.num_pairs)
    return replace(both, standard_error=error, freedom=freedom, evaluation_error=evaluation_error)


def difference_from(mean: float, standard_error: float, freedom: float, num_pairs: int) -> Difference:
    """Student-t interval and P(difference > 0) under a flat prior."""
    if not freedom or not math.isfinite(standard_error):
        return Difference(mean, math.nan, math.nan, math.nan, num_pairs)
    if standard_error == 0:
        return Difference(mean, mean, mean, float(mean > 0) + 0.5 * float(mean == 0), num_pairs, 0.0, freedom)
    reach = float(stdtrit(freedom, 0.5 + LEVEL / 2)) * standard_error
    p_positive = float(stdtr(freedom, mean / standard_error))
    return Difference(mean, mean - reach, mean + reach, p_positive, num_pairs, standard_error, freedom)


def _unpaired(a: Array, b: Array) -> Difference:
    mean = float(a.mean() - b.mean())
    if len(a) < 2 or len(b) < 2:
        return Difference(mean, math.nan, math.nan, math.nan, 0)
    share_a, share_b = float(a.var(ddof=1)) / len(a), float(b.var(ddof=1)) / len(b)
    total = share_a + share_b
    weight = share_a**2 / (len(a) - 1) + share_b**2 / (len(b) - 1)
    return difference_from(mean, math.sqrt(total), total**2 / weight if weight else len(a) + len(b) - 2, 0)
