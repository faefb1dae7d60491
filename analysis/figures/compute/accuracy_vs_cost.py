"""Figures: metric against the cost of training, in FLOPs and in device-hours, with the Pareto front.

One line per model through its subset sizes, small to large; under constant steps every size costs the same and the line
is vertical. FLOPs are counted from the model and compare across devices; device-hours do not, so each device has a
figure of its own. Times of runs that did the same work differ by the machine alone: they are pooled, drawn as a range,
and models whose ranges touch are not ranked by a front.
"""

import re

import pandas as pd

from analysis.figures.accuracy_vs_throughput import front_of
from analysis.figures.canvas.axes import EndLabel, headline, log_axis, value_axis
from analysis.figures.canvas.drawing import Drawing
from analysis.figures.canvas.labels import point_labels
from analysis.figures.canvas.style import MUTED, looks, new_figure
from analysis.runs.load import Records
from analysis.runs.metrics import Metric
from scaling.readable import cost_text, count_text, devices_text, number_text, power_text, spread_text

SAME_WORK = 1.001
"""Ratio of FLOPs up to which two runs of a model did the same work."""

_COST_TITLES = {"flops": "training compute, FLOPs", "device_hours": "training time, device-hours"}


def accuracy_vs_cost(records: Records, metric: str) -> list[Drawing]:
    """The FLOPs figure, then one for device-hours on each device, precision and device count."""
    runs = records.runs[records.runs[metric].notna()]
    drawings = []
    if is_known(runs, "flops"):
        drawings.append(_draw(records, cost_cells(records, runs, metric, "flops"), metric, "flops", "", ""))
    if is_known(runs, "device_hours"):
        groups = list(runs.groupby(["device", "precision", "num_devices"], sort=True))
        for (device, precision, num_devices), rows in groups:
            where = devices_text(device, precision, num_devices)
            slug = "" if len(groups) == 1 else "_" + re.sub(r"[^a-z0-9]+", "-", where.lower()).strip("-")
            cells = same_work_pooled(cost_cells(records, rows, metric, "device_hours"), rows)
            drawings.append(_draw(records, cells, metric, "device_hours", f" ({where})", slug))
    return drawings


def cost_cells(records: Records, runs: pd.DataFrame, metric: str, cost: str) -> pd.DataFrame:
    """Mean cost and metric of each model and size, with their ranges over runs."""
    grouped = runs.groupby(["model", "num_images"], sort=False)
    table = grouped.agg(
        cost_mean=(cost, "mean"),
        cost_min=(cost, "min"),
        cost_max=(cost, "max"),
        mean=(metric, "mean"),
        sd=(metric, "std"),
        min=(metric, "min"),
        max=(metric, "max"),
        num_runs=(metric, "count"),
        run_ids=("run_id", " ".join),
    ).reset_index()
    order = sorted(table.index, key=lambda i: (records.models[table.model[i]], table.num_images[i]))
    return table.loc[order].reset_index(drop=True)


def same_work_pooled(table: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """`cost_cells` of times, with one time and range for all sizes of a model whose runs took equal FLOPs."""
    if not is_known(runs, "flops"):
        return table
    work = runs.groupby("model")["flops"].agg(["min", "max"])
    same = work.index[work["max"] <= SAME_WORK * work["min"]]
    pooled = runs[runs["model"].isin(same)].groupby("model")["device_hours"].agg(["mean", "min", "max"])
    table = table.copy()
    for name in ("mean", "min", "max"):
        table[f"cost_{name}"] = table["model"].map(pooled[name]).fillna(table[f"cost_{name}"])
    return table


def told_apart(front: pd.DataFrame) -> bool:
    """Whether no two neighbours of a front, of different models, have costs whose ranges over runs touch."""
    ordered = front.sort_values("cost_mean")
    later = ordered.shift(-1)
    touching = (ordered["cost_max"] >= later["cost_min"]) & (ordered["model"] != later["model"])
    return not bool(touching[later["model"].notna()].any())


def cheapest_front(table: pd.DataFrame, measure: Metric) -> pd.DataFrame:
    """Rows that no other row beats or equals on both cost and mean, by rising cost."""
    return front_of(table.assign(merit=measure.direction * table["mean"]), "cost_mean", ascending=True)


def is_known(runs: pd.DataFrame, cost: str) -> bool:
    """Whether every run tells this cost."""
    return cost in runs and bool((runs[cost] > 0).all())


def _pooled_text(cost: str) -> str:
    if cost == "flops":
        return ""
    return "Times of a model's runs that did equal work count together: one mean and one range for all such sizes. "


def _draw(records: Records, table: pd.DataFrame, metric: str, cost: str, where: str, slug: str) -> Drawing:
    figure = new_figure()
    ax = figure.add_subplot()
    measure = records.metric(metric)
    scale = measure.scale
    front = cheapest_front(table, measure)
    has_front = len(front) > 1 and told_apart(front)
    drawing = Drawing(
        name=f"accuracy_vs_{cost}{records.suffix}{slug}",
        title="Accuracy and compute" if cost == "flops" else "Accuracy and training time",
        caption=(
            f"{measure.title} against {_COST_TITLES[cost]}{where}, log scale. Markers: mean over the runs of "
            "one model and subset size; a line joins a model's sizes, the larger markers are its largest. Bars: "
            f"smallest to largest run. {_pooled_text(cost)}{_front_text(cost, front)}"
        ),
        figure=figure,
        points=table,
    )
    log_axis(ax, [*table["cost_min"], *table["cost_max"]], power_text if cost == "flops" else number_text)
    if has_front:
        ax.step(
            front["cost_mean"], scale * front["mean"], where="post", color=MUTED, linewidth=1.0, linestyle=":", zorder=1
        )
    look_of = looks(records.models.values())
    labels = []
    for model, rows in table.groupby("model", sort=False):
        look = look_of[str(model)]
        title = records.models[str(model)].title
        ax.plot(rows["cost_mean"], scale * rows["mean"], color=look.colour, linewidth=0.7 * look.line_width, alpha=0.5)
        ax.vlines(rows["cost_mean"], scale * rows["min"], scale * rows["max"], **look.bar())
        ax.hlines(scale * rows["mean"], rows["cost_min"], rows["cost_max"], **look.bar() | {"linewidth": 0.7})
        for part, size in ((rows.iloc[:-1], 0.75), (rows.iloc[-1:], 1.25)):
            (dots,) = ax.plot(part["cost_mean"], scale * part["mean"], **look.dots(size))
            drawing.explain(dots, [_tip(title, row, scale, cost) for row in part.itertuples()])
        last = rows.iloc[-1]
        labels.append(
            EndLabel(
                records.models[str(model)].figure_title,
                float(last["cost_mean"]),
                scale * float(last["mean"]),
                look.ink,
            )
        )
    ax.set_xlabel(f"{_COST_TITLES[cost]}{where}")
    value_axis(ax, measure.title)
    ax.margins(y=0.13)
    facts = "means over runs; large marker: largest subset"
    headline(ax, drawing.title, facts + ("; dotted: Pareto front" if has_front else ""))
    point_labels(ax, labels)
    return drawing


def _front_text(cost: str, front: pd.DataFrame) -> str:
    amount = "compute" if cost == "flops" else "time"
    if len(front) < 2:
        return f"No front is drawn: one point has the least mean {amount} and the best mean."
    if not told_apart(front):
        return f"No front is drawn: the ranges of {amount} of models that would be on it touch."
    return "The dotted staircase is the Pareto front: no point is both cheaper and better."


def _tip(title: str, row: object, scale: float, cost: str) -> str:
    text = cost_text(cost, row.cost_mean)  # type: ignore[attr-defined]
    accuracy = spread_text(scale * row.mean, scale * row.sd)  # type: ignore[attr-defined]
    return (
        f"{title}, {count_text(row.num_images)} images\n{text}\n"  # type: ignore[attr-defined]
        f"{accuracy}, n = {row.num_runs}\n{row.run_ids}"  # type: ignore[attr-defined]
    )
