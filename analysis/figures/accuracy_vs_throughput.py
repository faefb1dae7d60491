"""Figures: metric against throughput, one per place where throughput was measured (the shape of Mixer Figure 3, right).

Images per second mean nothing across devices, precisions or software, so rates measured in different ways never share a
figure. The accuracy is that of the largest subset size that every model has. The dotted staircase is the Pareto front:
it joins the models that no other model beats on both axes, without claiming anything between them.
"""

import re

import pandas as pd

from analysis.figures.canvas.axes import EndLabel, headline, log_axis, value_axis
from analysis.figures.canvas.drawing import Drawing
from analysis.figures.canvas.labels import point_labels
from analysis.figures.canvas.style import MUTED, looks, new_figure
from analysis.runs.load import Records
from analysis.runs.metrics import Metric
from analysis.runs.speeds import places, speeds
from scaling.readable import count_text, number_text, range_text, spread_text

BUSY_MARK = "†"
"""Beside a model that was measured while its machine did other work."""

_KINDS = {"alone": "", "runs": "", "training": " (no inference measurement in these runs)"}
"""What the axis says beyond the kind of work, by where a rate is from."""


def throughput_points(records: Records, rates: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """One row of `rates` (`analysis.runs.speeds.speeds`) per place and model, with the metric's cell at the largest
    size common to all models (each model's own largest when they share none)."""
    shared = set.intersection(*(set(rows["num_images"]) for _, rows in table.groupby("model")))
    last = table[table["num_images"] == max(shared)] if shared else table.groupby("model", sort=False).tail(1)
    points = rates.merge(last, on="model")
    order = sorted(points.index, key=lambda i: records.models[points.model[i]])
    return points.loc[order].reset_index(drop=True)


def accuracy_vs_throughput(records: Records, table: pd.DataFrame, metric: str, *, name: str = "") -> list[Drawing]:
    """One drawing per place; none for runs without any throughput. `name` begins the file names."""
    groups = places(throughput_points(records, speeds(records), table))
    drawings = []
    for where, rows in groups:
        file_name = f"{name or 'accuracy_vs_throughput'}{records.suffix}{place_suffix(where, len(groups))}"
        drawings.append(_draw(records, rows.reset_index(drop=True), metric, where, file_name))
    return drawings


def place_suffix(where: str, num_places: int) -> str:
    """Of the name of a figure's file, where several places have one each."""
    return "" if num_places == 1 else "_" + re.sub(r"[^a-z0-9]+", "-", where.lower()).strip("-")


def pareto_front(points: pd.DataFrame, measure: Metric) -> pd.DataFrame:
    """Rows that no other row beats or equals on both throughput and mean, by falling throughput."""
    return front_of(points.assign(merit=measure.direction * points["mean"]), "throughput_median", ascending=False)


def front_of(points: pd.DataFrame, cost: str, *, ascending: bool) -> pd.DataFrame:
    """Rows whose `merit` is above that of every row before them in the order of `cost`."""
    ordered = points.sort_values([cost, "merit"], ascending=[ascending, False], kind="stable")
    return ordered[ordered["merit"] > ordered["merit"].cummax().shift(fill_value=float("-inf"))]


def _draw(records: Records, rows: pd.DataFrame, metric: str, where: str, file_name: str) -> Drawing:
    figure = new_figure()
    ax = figure.add_subplot()
    measure = records.metric(metric)
    scale = measure.scale
    front = pareto_front(rows, measure)
    has_front = len(front) > 1
    first = rows.iloc[0]
    kind = f"{first['work']} throughput{_KINDS[first['source']]}"
    drawing = Drawing(
        name=file_name,
        title="Throughput and accuracy",
        caption=_caption(records, rows, measure, kind, where, has_front=has_front),
        figure=figure,
        points=rows,
    )
    if has_front:
        ax.step(front["throughput_median"], scale * front["mean"], where="post", color=MUTED, linewidth=1.0,
                linestyle=":", zorder=1)  # fmt: skip
    look_of = looks(records.models.values())
    labels = []
    for row in rows.itertuples():
        look = look_of[str(row.model)]
        x, y = row.throughput_median, scale * row.mean
        ax.plot([row.throughput_low, row.throughput_high], [y, y], **look.bar())
        ax.plot([x, x], [scale * row.min, scale * row.max], **look.bar())
        (dot,) = ax.plot([x], [y], **look.dots(1.35))
        name = records.models[str(row.model)]
        drawing.explain(dot, [
            f"{name.title}\n{number_text(x)} images/s (median of {row.throughput_count} {_unit(first['source'])}s)\n"
            f"{spread_text(y, scale * row.sd)}, n = {row.num_runs}\n{row.run_ids}"
            + (f"\n{BUSY_MARK} {row.disturbances}" if row.disturbances else "")
        ])  # fmt: skip
        mark = f" {BUSY_MARK}" if row.disturbances else ""
        labels.append(EndLabel(f"{name.figure_title}{mark}", x, y, look.ink))
    log_axis(ax, [*rows["throughput_low"], *rows["throughput_high"]])
    ax.set_xlabel(f"{kind}, images/s ({where})")
    value_axis(ax, measure.title)
    bars = "quartiles of timings, smallest to largest run" if first["source"] == "alone" else "smallest to largest run"
    facts = f"pre-trained on {_sizes(rows)} images; bars: {bars}" + ("; dotted: Pareto front" if has_front else "")
    headline(ax, drawing.title, facts + (f"; {BUSY_MARK} on a busy machine" if _is_marked(rows) else ""))
    ax.margins(y=0.14)
    point_labels(ax, labels)
    return drawing


def _unit(source: str) -> str:
    return "timing" if source == "alone" else "run"


def _is_marked(rows: pd.DataFrame) -> bool:
    return bool((rows["disturbances"] != "").any())


def _sizes(rows: pd.DataFrame) -> str:
    sizes = sorted(set(rows["num_images"]))
    return count_text(sizes[0]) if len(sizes) == 1 else "each model's largest number of"


def _caption(records: Records, rows: pd.DataFrame, measure: Metric, kind: str, where: str, *, has_front: bool) -> str:
    source = rows["source"].iloc[0]
    count = range_text(rows["throughput_count"].min(), rows["throughput_count"].max(), _unit(source))
    text = f"{measure.title} after pre-training on {_sizes(rows)} images against {kind} on {where}: "
    if source == "alone":
        text += (
            f"each model measured once, alone on its device, at its fastest batch; median of {count}, bars at their "
            f"quartiles ({rows['software'].iloc[0]}). "
        )
    else:
        beside = "" if source == "training" else ", measured beside whatever else the machine did"
        text += f"median over the runs of a model ({count}{beside}); bars from the smallest to the largest run. "
    text += "Vertical bars run from the smallest to the largest run. "
    text += (
        "The dotted staircase joins the models that no other model beats in both."
        if has_front
        else "One model is the fastest and the best."
    )
    return f"{text}{disturbance_text(records, rows)}{_missing_text(records, rows)}"


def disturbance_text(records: Records, rows: pd.DataFrame) -> str:
    """What the mark means, model by model; empty where no rate was disturbed."""
    marked = rows[rows["disturbances"] != ""].drop_duplicates("model")
    if marked.empty:
        return ""
    told = "; ".join(f"{records.models[str(row.model)].title}: {row.disturbances}" for row in marked.itertuples())
    return f" {BUSY_MARK} Measured while the machine was busy, so the model may be faster than this ({told})."


def _missing_text(records: Records, rows: pd.DataFrame) -> str:
    """Models of these runs that no point stands for."""
    missing = [model for model in dict.fromkeys(records.runs["model"]) if model not in set(rows["model"])]
    if not missing:
        return ""
    titles = ", ".join(records.models[str(model)].title for model in missing)
    return f" Not measured in this way, and not drawn: {titles}."
