"""Models compared at equal training compute: at each budget and subset size that both were trained at.

Runs whose costs agree within COST_TOLERANCE have the same budget and are compared directly, with nothing interpolated.
Where two models share several budgets they are also compared halfway between neighbouring ones (in log FLOPs): each
seed's values at the two budgets are joined, and the seeds compared as at a budget. Subset sizes are never mixed.
"""

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from analysis.comparison.compare import COLUMNS, at_matched_data, differences_by_size, row_of, values_by_model
from analysis.comparison.matched_cost import Curves, at_matched_cost, model_curves
from analysis.runs.conditions import BUDGET_TOLERANCE, budget_names, clusters
from analysis.runs.load import Records

COST_TOLERANCE = BUDGET_TOLERANCE
"""Costs of one budget differ by at most this share; whole steps make planned budgets differ a little."""
EQUAL_COLUMNS = ["budget", "num_images", "kind", "cost_spread", *COLUMNS[2:]]
"""`kind` is `measured` at a budget, `interpolated` between two; `cost_spread` is the largest relative difference of
the costs of the runs compared. The rest as in `analysis.comparison.compare`."""
CELLS = ["budget", "num_images", "fraction", "model", "mean", "sd", "min", "max", "num_runs", "run_ids"]
_RUN_KEYS = ["model", "num_images", "seed", "subset_seed"]


@dataclass(frozen=True, slots=True)
class Budget:
    """Runs that cost the same."""

    flops: float
    """Median cost of the runs."""
    name: str
    """Short text, unique among the budgets of one comparison."""
    runs: pd.DataFrame

    @property
    def spread(self) -> float:
        """Largest cost over the smallest, minus 1."""
        return _spread(self.runs["flops"])


def budgets(records: Records, metric: str) -> list[Budget]:
    """Budgets at which at least two models were trained on a common subset size, ascending; none without costs."""
    if "flops" not in records.runs:
        return []
    runs = records.runs[records.runs[metric].notna() & (records.runs["flops"] > 0)]
    found = [rows for rows in _same_cost(runs) if _has_a_pair(rows)]
    middles = [float(rows["flops"].median()) for rows in found]
    return [
        Budget(middle, name, rows) for middle, name, rows in zip(middles, budget_names(middles), found, strict=True)
    ]


def at_equal_compute(records: Records, metric: str) -> pd.DataFrame:
    """EQUAL_COLUMNS for every pair of models, at each common budget and subset size and between neighbouring ones.

    Two models without a common budget are compared inside their common range of costs, where both have one.
    """
    levels = budgets(records, metric)
    tables = [_measured(records, level, metric) for level in levels]
    tables += [_between(records, low, high, metric) for low, high in itertools.pairwise(levels)]
    known = {pair for table in tables if len(table) for pair in zip(table["model_a"], table["model_b"], strict=True)}
    for size, curves in curves_by_size(records, metric).items():
        table = at_matched_cost(curves, "flops", records.metric(metric), known).rename(columns={"at": "budget"})
        tables.append(table.assign(num_images=size, kind="interpolated", cost_spread=math.nan))
    tables = [table for table in tables if len(table)]
    if not tables:
        return pd.DataFrame(columns=EQUAL_COLUMNS)
    table = pd.concat(tables, ignore_index=True)
    return table.sort_values(["budget", "num_images"], kind="stable").reset_index(drop=True)[EQUAL_COLUMNS]


def curves_by_size(records: Records, metric: str) -> dict[float, Curves]:
    """For each subset size, the metric of each model and seed against its training cost."""
    if "flops" not in records.runs:
        return {}
    return {
        size: model_curves(replace(records, runs=runs), metric, "flops")
        for size, runs in records.runs.groupby("num_images", sort=True)
        if runs[metric].notna().any()
    }


def cells_of(levels: list[Budget], metric: str) -> pd.DataFrame:
    """CELLS: the mean of each model at each budget and subset size, with its spread and runs."""
    rows = []
    for level in levels:
        for (model, num_images), runs in level.runs.groupby(["model", "num_images"], sort=True):
            values = runs[metric]
            sd = values.std(ddof=1) if len(values) > 1 else math.nan
            where = [level.flops, num_images, runs["fraction"].iloc[0], model]
            found = [values.mean(), sd, values.min(), values.max(), len(values)]
            rows.append([*where, *found, " ".join(runs["run_id"])])
    return pd.DataFrame(rows, columns=CELLS)


def leaders(records: Records, metric: str, compared: pd.DataFrame) -> pd.DataFrame:
    """One row per budget and subset size that two models share: the best mean, the second, and their difference.

    `compared` is the table of `at_equal_compute`."""
    measured = compared[compared["kind"] == "measured"]
    rows = []
    for level in budgets(records, metric):
        for _, here in cells_of([level], metric).groupby("num_images", sort=True):
            if len(here) > 1:
                first, second = _best_two(records, here, metric)
                rows.append(_lead(first, second, _same_size(measured, first, second), level.flops))
    return pd.DataFrame(rows)


def frontier(records: Records, metric: str, compared: pd.DataFrame) -> pd.DataFrame:
    """The iso-compute frontier: per budget the best model and subset by mean, and the second-best of all models and
    subsets there. Two models on one subset are compared as in `leaders`; else the runs are paired by seed.
    `compared` is the table of `at_equal_compute`."""
    measured = compared[compared["kind"] == "measured"]
    rows = []
    for level in budgets(records, metric):
        first, second = _best_two(records, cells_of([level], metric), metric)
        if first.num_images == second.num_images:
            row = _same_size(measured, first, second)
        else:
            row = _across_sizes(records, level, first, second, metric)
        rows.append(_lead(first, second, row, level.flops))
    return pd.DataFrame(rows)


def _same_size(measured: pd.DataFrame, first: Any, second: Any) -> dict[str, Any]:
    """The measured comparison of two cells of one budget and subset size."""
    models = [first.model, second.model]
    here = (measured["budget"] == first.budget) & (measured["num_images"] == first.num_images)
    pair = measured[here & measured["model_a"].isin(models) & measured["model_b"].isin(models)]
    found: dict[str, Any] = pair.to_dict("records")[0]
    return found


def _across_sizes(records: Records, level: Budget, first: Any, second: Any, metric: str) -> dict[str, Any]:
    """The comparison of two cells with different subset sizes, paired by seed."""
    sides = [
        level.runs[(level.runs["model"] == cell.model) & (level.runs["num_images"] == cell.num_images)].assign(
            model=side, num_images=0.0
        )
        for side, cell in (("first", first), ("second", second))
    ]
    values, units = values_by_model(pd.concat(sides), metric, ("num_images", "seed"))
    ((_, difference),) = differences_by_size(values["first"], values["second"], units)
    models, means = (first.model, second.model), (first.mean, second.mean)
    return row_of("flops", level.flops, models, means, difference, records.metric(metric))


def _same_cost(runs: pd.DataFrame) -> Iterator[pd.DataFrame]:
    for low, high in clusters(sorted(runs["flops"].unique()), COST_TOLERANCE):
        yield runs[runs["flops"].between(low, high)]


def _has_a_pair(runs: pd.DataFrame) -> bool:
    return bool((runs.groupby("num_images")["model"].nunique() > 1).any())


def _measured(records: Records, level: Budget, metric: str) -> pd.DataFrame:
    table = at_matched_data(replace(records, runs=level.runs), metric)
    costs = level.runs.groupby(["model", "num_images"])["flops"].agg(["min", "max"])
    ends = dict(zip(costs.index, costs.to_numpy().tolist(), strict=True))
    pairs = zip(table["model_a"], table["model_b"], table["at"], strict=True)
    spreads = [_spread(np.array(ends[first, at] + ends[second, at])) for first, second, at in pairs]
    return table.rename(columns={"at": "num_images"}).assign(budget=level.flops, kind="measured", cost_spread=spreads)


def _between(records: Records, low: Budget, high: Budget, metric: str) -> pd.DataFrame:
    """Halfway in log cost a straight line between two budgets is the mean of its ends."""
    keys = [name for name in _RUN_KEYS if name in low.runs]
    ends = low.runs[[*keys, metric, "run_id"]], high.runs[[*keys, metric]]
    if any(end.duplicated(keys).any() for end in ends):
        return pd.DataFrame()  # nothing says which runs of a repeated seed belong together
    joined = ends[0].merge(ends[1], on=keys, suffixes=("", "_high"))
    joined[metric] = (joined[metric] + joined[f"{metric}_high"]) / 2
    if joined.empty or not _has_a_pair(joined):
        return pd.DataFrame()
    table = at_matched_data(replace(records, runs=joined), metric)
    middle = math.sqrt(low.flops * high.flops)
    return table.rename(columns={"at": "num_images"}).assign(budget=middle, kind="interpolated", cost_spread=math.nan)


def _best_two(records: Records, cells: pd.DataFrame, metric: str) -> tuple[Any, Any]:
    """The rows of the two best means."""
    merit = records.metric(metric).direction * cells["mean"]
    order = sorted(cells.index, key=lambda i: (-merit[i], records.models[cells["model"][i]], cells["num_images"][i]))
    first, second = cells.loc[order[:2]].itertuples(index=False)
    return first, second


def _lead(ahead: Any, behind: Any, numbers: Mapping[str, Any], budget: float) -> dict[str, object]:
    """A row of `leaders`: two rows of CELLS and their comparison (a row of COLUMNS), turned so that `ahead` leads."""
    turned = numbers["model_a"] != ahead.model
    low, high, p_better = numbers["low"], numbers["high"], numbers["p_a_better"]
    return {
        "budget": budget,
        "num_images": ahead.num_images,
        "fraction": ahead.fraction,
        "ahead": ahead.model,
        "mean": ahead.mean,
        "num_runs": ahead.num_runs,
        "second": behind.model,
        "second_num_images": behind.num_images,
        "second_mean": behind.mean,
        "difference": -numbers["difference"] if turned else numbers["difference"],
        "low": -high if turned else low,
        "high": -low if turned else high,
        "p_better": 1 - p_better if turned else p_better,
        "pairs": numbers["pairs"],
        "evaluation_alone": numbers["evaluation_alone"],
        "run_ids": f"{ahead.run_ids} {behind.run_ids}",
    }


def _spread(costs: np.ndarray | pd.Series) -> float:
    values = np.asarray(costs, dtype=float)
    return float(values.max() / values.min() - 1)
