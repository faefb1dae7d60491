"""Does one evaluation order the models as another does? Kendall's tau-b over models, at each size and over all sizes.

Only models at one size of the pre-training set are compared; over all sizes the pairs of each size are added up, so
that the effect of more data, on which every evaluation agrees, does not count as agreement about architectures. The
interval is a percentile bootstrap over seeds: the runs of each model and size are drawn again with replacement, and
the means and tau computed anew. It holds the models and the test images fixed.
"""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.runs.load import Records

COLUMNS = [
    "metric_a", "metric_b", "num_images", "num_models", "concordant", "discordant", "ties", "tau", "low", "high",
    "fewest_runs",
]  # fmt: skip
"""`num_images` is NaN for all sizes together; `low` and `high` are NaN where a model has one run alone."""
NUM_DRAWS = 2000
LEVEL = 0.9
_SEED = 0

Values = NDArray[np.float64]


def rank_agreement(records: Records, metric: str, others: Sequence[str]) -> pd.DataFrame:
    """COLUMNS: `metric` beside each of `others`, over runs that have both; sizes with at least two models."""
    tables = [_agreement(records, metric, other) for other in others if other != metric and other in records.runs]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=COLUMNS)


def tau_b(a: Values, b: Values) -> float:
    """Kendall's tau-b of two rows of values; NaN where one of them does not order anything."""
    return float(_tau(_signs(a[None]), _signs(b[None]))[0])


def _agreement(records: Records, metric: str, other: str) -> pd.DataFrame:
    runs = records.runs[records.runs[metric].notna() & records.runs[other].notna()]
    generator = np.random.default_rng(_SEED)
    rows: list[dict[str, object]] = []
    first: list[Values] = []
    second: list[Values] = []
    sizes: list[tuple[int, int]] = []
    for size, group in runs.groupby("num_images", sort=True):
        cells = [cell[[metric, other]].to_numpy(float) for _, cell in group.groupby("model", sort=True)]
        if len(cells) < 2:
            continue
        # The means themselves come first, then those over runs drawn again.
        means = np.concatenate([np.array([cell.mean(axis=0) for cell in cells])[None], _redrawn(cells, generator)])
        first.append(_signs(means[:, :, 0]))
        second.append(_signs(means[:, :, 1]))
        sizes.append((len(cells), min(len(cell) for cell in cells)))
        rows.append(_row(metric, other, float(size), sizes[-1][0], first[-1], second[-1], sizes[-1][1]))
    if len(rows) > 1:
        num_models, fewest = max(one for one, _ in sizes), min(one for _, one in sizes)
        both = [np.concatenate(signs, axis=1) for signs in (first, second)]
        rows.append(_row(metric, other, math.nan, num_models, both[0], both[1], fewest))
    return pd.DataFrame(rows, columns=COLUMNS)


def _redrawn(cells: Sequence[Values], generator: np.random.Generator) -> Values:
    """(draws, models, 2): both means of each model over runs drawn again with replacement."""
    found = [cell[generator.integers(len(cell), size=(NUM_DRAWS, len(cell)))].mean(axis=1) for cell in cells]
    return np.stack(found, axis=1)


def _signs(values: Values) -> Values:
    """(draws, pairs): which of each two models is ahead."""
    first, second = np.triu_indices(values.shape[1], k=1)
    return np.sign(values[:, first] - values[:, second])


def _tau(a: Values, b: Values) -> Values:
    """(draws,): tau-b of pairs, sum(a b) / sqrt(untied of a * untied of b)."""
    untied = np.abs(a).sum(axis=1) * np.abs(b).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((a * b).sum(axis=1) / np.sqrt(untied))


def _row(
    metric: str, other: str, size: float, num_models: int, a: Values, b: Values, fewest_runs: int
) -> dict[str, object]:
    """Of the pairs' signs: the first row is of the means, the others of the draws."""
    taus = _tau(a, b)
    agreed = a[0] * b[0]
    low = high = math.nan
    if fewest_runs > 1 and not np.isnan(taus).all():
        low, high = np.nanquantile(taus[1:], ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return {
        "metric_a": metric,
        "metric_b": other,
        "num_images": size,
        "num_models": num_models,
        "concordant": int((agreed > 0).sum()),
        "discordant": int((agreed < 0).sum()),
        "ties": int((agreed == 0).sum()),
        "tau": float(taus[0]),
        "low": float(low),
        "high": float(high),
        "fewest_runs": fewest_runs,
    }
