"""Models or families compared at matched compute or throughput, inside what both measured, never outside.

A model trained at several budgets, and a family of several models, each trace accuracy against cost. Each seed's points
are interpolated linearly in the log of the cost, and the seeds are compared as pairs at the ends and the middle of
the common range.
"""

import itertools
import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace

import numpy as np
import pandas as pd

from analysis.comparison.compare import COLUMNS, difference_from, row_of
from analysis.runs.load import Records
from analysis.runs.metrics import THROUGHPUT_METRIC, Metric
from analysis.runs.speeds import TRAINING_RATE, places, speeds
from scaling.errors import UserError

MIN_RANGE = 1.05
"""A common range must span at least this factor; less is measurement noise, not a range."""
_NUM_TARGETS = 3
_PLACE = ["device", "precision", "num_devices"]
_RATE = "rate of the model"
"""A column of one place, whatever the runs were trained on."""

Curve = tuple[np.ndarray, np.ndarray]
"""Costs, ascending, and the metric at each."""
Curves = Mapping[str, Mapping[int, Curve]]
"""By model or family, then by seed."""


def model_curves(records: Records, metric: str, cost: str) -> Curves:
    """Models trained at several costs (epochs that grow with the data, or several budgets). Runs of one seed at one
    cost count with their largest subset."""
    curves = _curves_of(_measured(records, metric, cost), "model", metric, cost)
    return {model: curves[model] for model in sorted(curves, key=lambda name: records.models[name])}


def family_curves(records: Records, metric: str, cost: str) -> Curves:
    """Families of at least two models, at the largest size that all models have, without `unclear_families`.

    The cost of a model is the median over its runs.
    """
    runs = _at_shared_size(records, metric, cost)
    return _curves_of(runs[~runs["family"].isin(_unclear(runs, cost))], "family", metric, cost)


def unclear_families(records: Records, metric: str) -> dict[str, list[str]]:
    """Families that FLOPs or throughput would compare, had not one of their models several series or two of them one
    cost: nothing says which stands for the family, and to pick the best would favour the family with more of them.

    By family the names of those series.
    """
    parts = [(records, "flops"), *((rated, _RATE) for _, rated in _rated(records))]
    found: dict[str, list[str]] = {}
    for part, cost in parts:
        runs = _at_shared_size(part, metric, cost)
        spans = runs.groupby("family")[cost].agg(["min", "max"])
        wide = set(spans.index[spans["max"] >= MIN_RANGE * spans["min"]])
        for family, names in _unclear(runs, cost).items() if len(wide) > 1 else ():
            known = found.setdefault(family, []) if family in wide else []
            known += [name for name in names if name not in known]
    return found


def at_matched_cost(curves: Curves, cost: str, metric: Metric, known: Collection[tuple[str, str]] = ()) -> pd.DataFrame:
    """`analysis.comparison.compare.COLUMNS` for every two curves with a common range, but the pairs `known` already; no
    row is extrapolated."""
    rows: list[dict[str, object]] = []
    for first, second in itertools.combinations(curves, 2):
        if (first, second) in known:
            continue
        a, b = curves[first], curves[second]
        seeds = [seed for seed in sorted(set(a) & set(b)) if len(a[seed][0]) > 1 and len(b[seed][0]) > 1]
        if not seeds:
            continue
        low = max(side[seed][0][0] for side in (a, b) for seed in seeds)
        high = min(side[seed][0][-1] for side in (a, b) for seed in seeds)
        if high < MIN_RANGE * low:
            continue
        for at in np.geomspace(low, high, _NUM_TARGETS):
            values = np.array([[value_at(side[seed], at) for side in (a, b)] for seed in seeds])
            gap = values[:, 0] - values[:, 1]
            freedom = len(gap) - 1
            error = float(gap.std(ddof=1)) / math.sqrt(len(gap)) if freedom else math.nan
            mean_a, mean_b = values.mean(axis=0)
            difference = difference_from(float(gap.mean()), error, freedom, len(gap))
            means = (float(mean_a), float(mean_b))
            rows.append(row_of(cost, float(at), (first, second), means, difference, metric))
    return pd.DataFrame(rows, columns=COLUMNS)


def at_matched_speed(records: Records, metric: str) -> pd.DataFrame:
    """Families between their models at matched throughput, apart for each place where it was measured; column `matched`
    names the place where there are several."""
    measure = records.metric(metric)
    found = [pd.DataFrame(columns=COLUMNS)]
    for named, rated in _rated(records):
        found.append(at_matched_cost(family_curves(rated, metric, _RATE), named, measure))
    return pd.concat([part for part in found if len(part)] or found[:1], ignore_index=True)


def _rated(records: Records) -> Iterator[tuple[str, Records]]:
    """The records with the rates of one place after the other in column _RATE, and what to call the rate."""
    groups = places(speeds(records))
    for where, rows in groups:
        rates = dict(zip(rows["model"], rows["throughput_median"], strict=True))
        runs = records.runs[records.runs["model"].isin(rates)]
        kind = THROUGHPUT_METRIC if rows["work"].iloc[0] == "inference" else TRAINING_RATE
        named = kind if len(groups) == 1 else f"{kind} ({where})"
        yield named, replace(records, runs=runs.assign(**{_RATE: runs["model"].map(rates)}))


def value_at(curve: Curve, cost: float) -> float:
    """The metric at `cost`, linear in its log between measured points."""
    return float(np.interp(math.log(cost), np.log(curve[0]), curve[1]))


def _measured(records: Records, metric: str, cost: str) -> pd.DataFrame:
    """Runs with metric and cost; UserError for a cost that compares on one kind of device only, measured on several."""
    if cost not in records.runs:
        return records.runs.iloc[:0]
    runs = records.runs[records.runs[metric].notna() & (records.runs[cost] > 0)]
    ways = runs.groupby(_PLACE).ngroups if cost not in ("flops", _RATE) and len(runs) else 1
    if ways > 1:
        raise UserError(
            f"{cost} were measured in {ways} ways (device, precision, number of devices) and cannot be matched "
            "across them; compare runs of one kind of device, or match flops"
        )
    return runs


def _at_shared_size(records: Records, metric: str, cost: str) -> pd.DataFrame:
    """`_measured` at the largest size that all models have, the cost of each model its median."""
    runs = _measured(records, metric, cost)
    shared = set.intersection(*(set(rows["num_images"]) for _, rows in runs.groupby("model"))) if len(runs) else set()
    if not shared:
        return runs.iloc[:0].assign(**{cost: 0.0})
    largest = runs[runs["num_images"] == max(shared)]
    return largest.assign(**{cost: largest.groupby("model")[cost].transform("median")})


def _unclear(runs: pd.DataFrame, cost: str) -> dict[str, list[str]]:
    """By family the series that share a model, or a cost, with another one of the family."""
    series = runs[["family", "model", cost]].drop_duplicates()
    base = [str(name).partition(" [")[0] for name in series["model"]]
    is_shared = series.assign(base=base).duplicated(["family", "base"], keep=False)
    is_shared |= series.duplicated(["family", cost], keep=False)
    return {str(family): list(names) for family, names in series[is_shared].groupby("family")["model"]}


def _curves_of(runs: pd.DataFrame, kind: str, metric: str, cost: str) -> dict[str, dict[int, Curve]]:
    """The curve of each seed of each value of column `kind`, both ascending; at one cost, the largest subset counts,
    and runs that repeat a seed there (with other draws of the subset, say) count with their mean."""
    if runs.empty:
        return {}
    at = [kind, "seed", cost]
    largest = runs[runs["num_images"] == runs.groupby(at)["num_images"].transform("max")]
    ordered = largest.groupby(at, sort=True)[metric].mean().reset_index()
    costs, values = ordered[cost].to_numpy(float), ordered[metric].to_numpy(float)
    curves: dict[str, dict[int, Curve]] = {}
    for (name, seed), positions in ordered.groupby([kind, "seed"], sort=True).indices.items():
        curves.setdefault(str(name), {})[int(seed)] = (costs[positions], values[positions])
    return curves
