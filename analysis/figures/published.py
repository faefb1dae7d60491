"""Figures of the published numbers: Mixer Figure 3, and a study beside Mixer Figure 2 (right).

A study on other data shares no x-axis of images with the paper, but it shares the share of the full set; that
is the axis on which the two stand side by side. Throughput of other devices is never drawn into one figure.
"""

import pandas as pd

from analysis.figures.accuracy_vs_cost import cheapest_front
from analysis.figures.accuracy_vs_throughput import pareto_front
from analysis.figures.canvas.axes import EndLabel, end_labels, headline, log_axis, subset_size_axis, value_axis
from analysis.figures.canvas.drawing import Drawing
from analysis.figures.canvas.labels import point_labels
from analysis.figures.canvas.style import MUTED, PAPER, looks, new_figure
from analysis.published.tables import FIGURE_2_SOURCE, FIGURE_3_SOURCE, PUBLISHED_METRIC, figure_3_points
from analysis.runs.load import Records
from analysis.runs.metrics import known_metric
from analysis.runs.naming import parse_model_name
from scaling.readable import number_text, percent_text

_AXES = {
    "core_days": ("published_accuracy_vs_cost", "pre-training cost, TPUv3 core-days"),
    "images_per_second_per_core": ("published_accuracy_vs_throughput", "inference throughput, images/s per TPUv3 core"),
}


def published_figure_3() -> list[Drawing]:
    """Both panels of Figure 3 as two drawings."""
    points = figure_3_points()
    return [_figure_3(points, column) for column in _AXES]


def _figure_3(points: pd.DataFrame, column: str) -> Drawing:
    name, label = _AXES[column]
    figure = new_figure(7.0, 5.0)
    ax = figure.add_subplot()
    drawing = Drawing(
        name=name,
        title="Published: accuracy and " + ("cost" if column == "core_days" else "throughput"),
        caption=f"ImageNet top-1 after fine-tuning at 224 px, pre-trained on JFT-300M. Source: {FIGURE_3_SOURCE}.",
        figure=figure,
        points=points,
    )
    models = {model: parse_model_name(model) for model in points["model"]}
    look_of = looks(models.values())
    log_axis(ax, points[column].tolist())
    renamed = points.assign(mean=points["imagenet_top1"], cost_mean=points[column], throughput_median=points[column])
    measure = known_metric(PUBLISHED_METRIC)
    front = cheapest_front(renamed, measure) if column == "core_days" else pareto_front(renamed, measure)
    ax.step(front[column], 100 * front["mean"], where="post", color=MUTED, linewidth=1.0, linestyle=":", zorder=1)
    labels = []
    for row in points.itertuples():
        model, value = models[row.model], getattr(row, column)
        look = look_of[row.model]
        epochs = f" ({row.epochs} ep)" if row.epochs == "14" and model.scale < 4 else ""
        (dot,) = ax.plot([value], [100 * row.imagenet_top1], **look.dots())
        drawing.explain(dot, [
            f"{model.title}, {row.epochs or '?'} epochs\n{number_text(value)} {label.split(', ')[1]}\n"
            f"{100 * row.imagenet_top1:.2f} %\n{row.verified}"
        ])  # fmt: skip
        labels.append(EndLabel(model.title + epochs, value, 100 * row.imagenet_top1, look.colour))
    ax.set_xlabel(label)
    value_axis(ax, "ImageNet top-1, %")
    ax.margins(y=0.1)
    headline(ax, drawing.title, f"{FIGURE_3_SOURCE}; dotted: Pareto front of these models")
    point_labels(ax, labels, font_size=7.5)
    return drawing


def beside_published(records: Records, table: pd.DataFrame, published: pd.DataFrame, metric: str) -> Drawing:
    """The study's cells (solid) and the published ones (hollow, thin) against the share of the full set."""
    figure = new_figure(7.4, 5.0)
    ax = figure.add_subplot()
    scale = records.metric(metric).scale
    models = records.models | {name: parse_model_name(name) for name in published["model"]}
    look_of = looks(models.values())
    ends = []
    points = []
    for source, cells in (("published", published), ("this study", table)):
        points.append(cells[["model", "fraction", "mean", "num_runs", "run_ids"]].assign(source=source))
        own = source == "this study"
        for model, rows in cells.groupby("model", sort=False):
            look = look_of[str(model)]
            hollow = {
                "markerfacecolor": PAPER,
                "markeredgecolor": look.colour,
                "linewidth": 0.8,
                "alpha": 0.55,
                "zorder": 2,
            }
            values = (scale if own else 100.0) * rows["mean"]
            ax.plot(rows["fraction"], values, **(look.line() if own else look.line() | hollow))
            text = models[str(model)].title + ("" if own else " (paper)")
            ends.append(EndLabel(text, float(rows["fraction"].iloc[-1]), float(values.iloc[-1]), look.colour))
    everything = pd.concat(points, ignore_index=True)
    subset_size_axis(ax, dict.fromkeys(sorted(everything["fraction"].unique())))
    ax.xaxis.set_major_formatter(lambda x, _: percent_text(x))
    ax.set_xlabel("share of the full pre-training set")
    value_axis(ax, records.metric(metric).title)
    headline(
        ax,
        "Beside the published curves",
        "solid: this study; hollow: the paper (ImageNet linear 5-shot top-1, JFT-300M)",
    )
    end_labels(ax, ends, font_size=7.5)
    return Drawing(
        name=f"beside_published{records.suffix}",
        title="Beside the published curves",
        caption=(
            f"This study (solid, {records.metric(metric).title}) and {FIGURE_2_SOURCE} (hollow), against the share of "
            "the full pre-training set. The data, the task and the scale differ: compare shapes and orders, not values."
        ),
        figure=figure,
        points=everything,
    )
