"""Figures: metric against throughput, one per device and precision (the shape of Mixer Figure 3, right).

Images per second mean nothing across devices, so runs measured on different devices never share a figure. The
accuracy is that of the largest subset size that every model has. The dotted staircase is the Pareto front: it
joins the models that no other model beats on both axes, without claiming anything between them.
"""

import re

import pandas as pd

from analysis.figures.canvas.axes import EndLabel, headline, log_axis, value_axis
from analysis.figures.canvas.drawing import Drawing
from analysis.figures.canvas.labels import point_labels
from analysis.figures.canvas.style import MUTED, looks, new_figure
from analysis.runs.load import Records
from analysis.runs.metrics import THROUGHPUT_METRIC, Metric
from scaling.readable import count_text, number_text, range_text, spread_text

TRAINING_THROUGHPUT = "images_per_second"
"""Of the run's result: the fallback when no throughput evaluation was run."""


def throughput_column(records: Records) -> str:
    measured = THROUGHPUT_METRIC in records.runs and records.runs[THROUGHPUT_METRIC].notna().any()
    return THROUGHPUT_METRIC if measured else TRAINING_THROUGHPUT


def throughput_points(records: Records, table: pd.DataFrame) -> pd.DataFrame:
    """One row per device, precision and model: median, smallest and largest throughput over its runs, and the
    metric's cell at the largest size common to all models (each model's own largest when they share none)."""
    column = throughput_column(records)
    shared = set.intersection(*(set(rows["num_images"]) for _, rows in table.groupby("model")))
    last = table[table["num_images"] == max(shared)] if shared else table.groupby("model", sort=False).tail(1)
    keys = ["device", "precision", "num_devices", "model"]
    measured = records.runs[records.runs[column].notna()]
    if column == THROUGHPUT_METRIC and "throughput_device" in measured:
        # It may have been measured long after training, on another machine; always on one device.
        measured = measured.assign(
            device=measured["throughput_device"], precision=measured["throughput_precision"], num_devices=1
        )
    speed = measured.groupby(keys, sort=True)[column].agg(
        throughput_median="median", throughput_min="min", throughput_max="max", throughput_runs="count"
    )
    points = speed.reset_index().merge(last, on="model")
    order = sorted(points.index, key=lambda i: (*points.loc[i, keys[:3]], records.models[points.model[i]]))
    return points.loc[order].reset_index(drop=True)


def accuracy_vs_throughput(records: Records, table: pd.DataFrame, metric: str) -> list[Drawing]:
    """One drawing per device, precision and number of devices; none for runs without any throughput."""
    if throughput_column(records) not in records.runs:
        return []
    points = throughput_points(records, table)
    groups = list(points.groupby(["device", "precision", "num_devices"], sort=True))
    drawings = []
    for (device, precision, num_devices), rows in groups:
        where = f"{device}, {precision}" + (f", {num_devices} devices" if num_devices > 1 else "")
        suffix = "" if len(groups) == 1 else "_" + re.sub(r"[^a-z0-9]+", "-", where.lower()).strip("-")
        drawings.append(_draw(records, rows.reset_index(drop=True), metric, where, suffix))
    return drawings


def pareto_front(points: pd.DataFrame, measure: Metric) -> pd.DataFrame:
    """Rows that no other row beats or equals on both throughput and mean, by falling throughput."""
    return front_of(points.assign(merit=measure.direction * points["mean"]), "throughput_median", ascending=False)


def front_of(points: pd.DataFrame, cost: str, *, ascending: bool) -> pd.DataFrame:
    """Rows whose `merit` is above that of every row before them in the order of `cost`."""
    ordered = points.sort_values([cost, "merit"], ascending=[ascending, False], kind="stable")
    return ordered[ordered["merit"] > ordered["merit"].cummax().shift(fill_value=float("-inf"))]


def _draw(records: Records, rows: pd.DataFrame, metric: str, where: str, suffix: str) -> Drawing:
    figure = new_figure()
    ax = figure.add_subplot()
    measure = records.metric(metric)
    scale = measure.scale
    column = throughput_column(records)
    kind = "inference" if column == THROUGHPUT_METRIC else "training (no inference measurement in these runs)"
    drawing = Drawing(
        name=f"accuracy_vs_throughput{records.suffix}{suffix}",
        title="Throughput and accuracy",
        caption=_caption(rows, measure, kind, where),
        figure=figure,
        points=rows,
    )
    front = pareto_front(rows, measure)
    if len(front) > 1:
        ax.step(front["throughput_median"], scale * front["mean"], where="post", color=MUTED, linewidth=1.0,
                linestyle=":", zorder=1)  # fmt: skip
    look_of = looks(records.models.values())
    labels = []
    for row in rows.itertuples():
        look = look_of[str(row.model)]
        x, y = row.throughput_median, scale * row.mean
        ax.plot([row.throughput_min, row.throughput_max], [y, y], **look.bar())
        ax.plot([x, x], [scale * row.min, scale * row.max], **look.bar())
        (dot,) = ax.plot([x], [y], **look.dots(1.35))
        title = records.models[str(row.model)].title
        drawing.explain(dot, [
            f"{title}\n{number_text(x)} images/s (median of {row.throughput_runs} runs)\n"
            f"{spread_text(y, scale * row.sd)}, n = {row.num_runs}\n{row.run_ids}"
        ])  # fmt: skip
        labels.append(EndLabel(records.models[str(row.model)].figure_title, x, y, look.ink))
    log_axis(ax, [*rows["throughput_min"], *rows["throughput_max"]])
    ax.set_xlabel(f"{kind} throughput, images/s ({where})")
    value_axis(ax, measure.title)
    headline(
        ax,
        drawing.title,
        f"pre-trained on {_sizes(rows)} images; bars: smallest to largest run; dotted: Pareto front",
    )
    ax.margins(y=0.14)
    point_labels(ax, labels)
    return drawing


def _sizes(rows: pd.DataFrame) -> str:
    sizes = sorted(set(rows["num_images"]))
    return count_text(sizes[0]) if len(sizes) == 1 else "each model's largest number of"


def _caption(rows: pd.DataFrame, measure: Metric, kind: str, where: str) -> str:
    runs = range_text(rows["throughput_runs"].min(), rows["throughput_runs"].max(), "run")
    return (
        f"{measure.title} after pre-training on {_sizes(rows)} images against {kind} throughput on {where}: "
        f"median over the runs of a model ({runs}). "
        "Bars run from the smallest to the largest run on both axes. The dotted staircase joins the models that no "
        "other model beats in both."
    )
