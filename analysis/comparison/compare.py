"""Two models compared at matched data: the difference with a paired interval and P(better).

Differences are taken run by run where both models have the seed, so that what the seed does to both cancels; their
spread is pooled over sizes, because a size has few seeds. Without pairs the two spreads add (Welch). One seed gives a
difference without an interval.
"""

import itertools
import math
from dataclasses import dataclass

import pandas as pd
from scipy.special import stdtr, stdtrit

from analysis.runs.load import Records
from analysis.runs.metrics import direction

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
]


@dataclass(frozen=True, slots=True)
class Difference:
    """A - B in the metric's unit with its interval; NaN bounds when the spread is unknown."""

    mean: float
    low: float
    high: float
    p_positive: float
    num_pairs: int
    """0 for unpaired runs."""


def at_matched_data(records: Records, metric: str) -> pd.DataFrame:
    """COLUMNS for every pair of models and every size that both have."""
    runs = records.runs[records.runs[metric].notna()]
    rows: list[dict[str, object]] = []
    for first, second in itertools.combinations(_models(records, runs), 2):
        a, b = runs[runs["model"] == first], runs[runs["model"] == second]
        for size, difference in differences_by_size(a, b, metric).items():
            mean_a, mean_b = (rows_[rows_["num_images"] == size][metric].mean() for rows_ in (a, b))
            rows.append(row_of("images", size, (first, second), (float(mean_a), float(mean_b)), difference, metric))
    return pd.DataFrame(rows, columns=COLUMNS)


def row_of(
    matched: str,
    at: float,
    models: tuple[str, str],
    means: tuple[float, float],
    difference: Difference,
    metric: str,
) -> dict[str, object]:
    """One row of COLUMNS; of a loss, the lower is the better."""
    p_better = difference.p_positive if direction(metric) > 0 else 1 - difference.p_positive
    interval = (difference.mean, difference.low, difference.high)
    return dict(zip(COLUMNS, (matched, at, *models, *means, *interval, p_better, difference.num_pairs), strict=True))


def differences_by_size(a: pd.DataFrame, b: pd.DataFrame, metric: str) -> dict[float, Difference]:
    """A - B at each common size, the spread of the pairs pooled over all common sizes."""
    paired = paired_runs(a, b)
    gap = paired[f"{metric}_a"] - paired[f"{metric}_b"]
    by_size = gap.groupby(paired["num_images"])
    freedom = int(len(gap) - by_size.ngroups)
    spread = math.sqrt(float(((gap - by_size.transform("mean")) ** 2).sum()) / freedom) if freedom else math.nan
    found = {}
    for size in sorted(set(a["num_images"]) & set(b["num_images"])):
        here = gap[paired["num_images"] == size]
        if len(here):
            found[size] = difference_from(float(here.mean()), spread / math.sqrt(len(here)), freedom, len(here))
        else:
            found[size] = _unpaired(a[a["num_images"] == size][metric], b[b["num_images"] == size][metric])
    return found


def paired_runs(a: pd.DataFrame, b: pd.DataFrame) -> pd.DataFrame:
    """Runs of both models with the same size and seeds, columns suffixed _a and _b; none where a size repeats a seed,
    because nothing then says which runs belong together."""
    keys = [name for name in ("num_images", "seed", "subset_seed") if name in a]
    pairs = a.merge(b, on=keys, suffixes=("_a", "_b"))
    return pairs.iloc[:0] if a.duplicated(keys).any() or b.duplicated(keys).any() else pairs


def difference_from(mean: float, standard_error: float, freedom: float, num_pairs: int) -> Difference:
    """Student-t interval and P(difference > 0) under a flat prior."""
    if not freedom or not math.isfinite(standard_error):
        return Difference(mean, math.nan, math.nan, math.nan, num_pairs)
    if standard_error == 0:
        return Difference(mean, mean, mean, float(mean > 0) + 0.5 * float(mean == 0), num_pairs)
    reach = float(stdtrit(freedom, 0.5 + LEVEL / 2)) * standard_error
    return Difference(mean, mean - reach, mean + reach, float(stdtr(freedom, mean / standard_error)), num_pairs)


def _unpaired(a: pd.Series, b: pd.Series) -> Difference:
    mean = float(a.mean() - b.mean())
    if len(a) < 2 or len(b) < 2:
        return Difference(mean, math.nan, math.nan, math.nan, 0)
    share_a, share_b = float(a.var(ddof=1)) / len(a), float(b.var(ddof=1)) / len(b)
    total = share_a + share_b
    weight = share_a**2 / (len(a) - 1) + share_b**2 / (len(b) - 1)
    return difference_from(mean, math.sqrt(total), total**2 / weight if weight else len(a) + len(b) - 2, 0)


def _models(records: Records, runs: pd.DataFrame) -> list[str]:
    return sorted(runs["model"].unique(), key=lambda model: records.models[model])
