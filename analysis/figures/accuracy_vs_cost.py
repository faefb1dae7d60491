"""Figures: metric against the cost of training, in FLOPs and in device-hours, with the Pareto front.

One line per model through its subset sizes, small to large; under constant steps every size costs the same and the line
is vertical. FLOPs are counted from the model and compare across devices; device-hours do not, so each device has a
figure of its own.
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
from scaling.readable import cost_text, count_text, number_text, power_text, spread_text

_COST_TITLES = {"flops": "training compute, FLOPs", "device_hours": "training time, device-hours"}


def accuracy_vs_cost(records: Records, metric: str) -> list[Drawing]:
    """The FLOPs figure, then one for device-hours on each device, precision and device count."""
    runs = records.runs[records.runs[metric].notna()]
    drawings = []
    if _known(runs, "flops"):
        drawings.append(_draw(records, cost_cells(records, runs, metric, "flops"), metric, "flops", "", ""))
    if _known(runs, "device_hours"):
        groups = list(runs.groupby(["device", "precision", "num_devices"], sort=True))
        for (device, precision, num_devices), rows in groups:
            where = f"{device}, {precision}" + (f", {num_devices} devices" if num_devices > 1 else "")
            slug = "" if len(groups) == 1 else "_" + re.sub(r"[^a-z0-9]+", "-", where.lower()).strip("-")
            cells = cost_cells(records, rows, metric, "device_hours")
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


def cheapest_front(table: pd.DataFrame, measure: Metric) -> pd.DataFrame:
    """Rows that no other row beats or equals on both cost and mean, by rising cost."""
    return front_of(table.assign(merit=measure.direction * table["mean"]), "cost_mean", ascending=True)


def _known(runs: pd.DataFrame, cost: str) -> bool:
    return cost in runs and bool((runs[cost] > 0).all())


def _draw(records: Records, table: pd.DataFrame, metric: str, cost: str, where: str, slug: str) -> Drawing:
    figure = new_figure()
    ax = figure.add_subplot()
    measure = records.metric(metric)
    scale = measure.scale
    front = cheapest_front(table, measure)
    drawing = Drawing(
        name=f"accuracy_vs_{cost}{records.suffix}{slug}",
        title="Accuracy and compute" if cost == "flops" else "Accuracy and training time",
        caption=(
            f"{measure.title} against {_COST_TITLES[cost]}{where}, log scale. Markers: mean over the runs of "
            "one model and subset size; a line joins a model's sizes, the larger markers are its largest. Bars: "
            "smallest to largest run. The dotted staircase is the Pareto front: no point is both cheaper and better."
        ),
        figure=figure,
        points=table,
    )
    log_axis(ax, [*table["cost_min"], *table["cost_max"]], power_text if cost == "flops" else number_text)
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
        for part, size in ((rows.iloc[:-1], 0.75), (rows.iloc[-1:], 1.25)):
            (dots,) = ax.plot(part["cost_mean"], scale * part["mean"], **look.dots(size))
            drawing.explain(dots, [_tip(title, row, scale, cost) for row in part.itertuples()])
        last = rows.iloc[-1]
        labels.append(EndLabel(title, float(last["cost_mean"]), scale * float(last["mean"]), look.colour))
    ax.set_xlabel(f"{_COST_TITLES[cost]}{where}")
    value_axis(ax, measure.title)
    ax.margins(y=0.13)
    headline(ax, drawing.title, "means over runs; large marker: largest subset; dotted: Pareto front")
    point_labels(ax, labels)
    return drawing


def _tip(title: str, row: object, scale: float, cost: str) -> str:
    text = cost_text(cost, row.cost_mean)  # type: ignore[attr-defined]
    accuracy = spread_text(scale * row.mean, scale * row.sd)  # type: ignore[attr-defined]
    return (
        f"{title}, {count_text(row.num_images)} images\n{text}\n"  # type: ignore[attr-defined]
        f"{accuracy}, n = {row.num_runs}\n{row.run_ids}"  # type: ignore[attr-defined]
    )
