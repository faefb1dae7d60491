"""Figures of the published numbers: Mixer Figure 3, and a study beside Mixer Figure 2 (right).

A study on other data shares no x-axis of images with the paper, but it shares the share of the full set; that is the
axis on which the two stand side by side, their accuracies apart where the tasks differ. Throughput of other devices is
never drawn into one figure.
"""

from collections.abc import Mapping

import pandas as pd
from matplotlib.axes import Axes

from analysis.figures.accuracy_vs_throughput import pareto_front
from analysis.figures.canvas.axes import EndLabel, end_labels, headline, log_axis, subset_size_axis, value_axis
from analysis.figures.canvas.drawing import Drawing
from analysis.figures.canvas.labels import point_labels
from analysis.figures.canvas.style import MUTED, PAPER, looks, new_figure
from analysis.figures.compute.accuracy_vs_cost import cheapest_front
from analysis.published.tables import FIGURE_2_SOURCE, FIGURE_3_SOURCE, PUBLISHED_METRIC, figure_3_points
from analysis.runs.evaluations import chance_level
from analysis.runs.load import Records
from analysis.runs.metrics import known_metric
from analysis.runs.naming import ModelName, parse_model_name
from scaling.readable import number_text, percent_text

PAPER_TASK, PAPER_CLASSES = "ImageNet linear 5-shot top-1", 1000

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
        labels.append(EndLabel(model.title + epochs, value, 100 * row.imagenet_top1, look.ink))
    ax.set_xlabel(label)
    value_axis(ax, "ImageNet top-1, %")
    ax.margins(y=0.1)
    headline(ax, drawing.title, f"{FIGURE_3_SOURCE}; dotted: Pareto front of these models")
    point_labels(ax, labels, font_size=7.5)
    return drawing


def beside_published(records: Records, table: pd.DataFrame, published: pd.DataFrame, metric: str) -> Drawing:
    """The study's cells (solid) and the published ones (hollow, thin) against the share of the full set.

    On one accuracy axis only where the study's task has as many classes as the paper's; else in panels of their own.
    """
    num_classes = _num_classes(records, metric)
    one_axis = num_classes == PAPER_CLASSES
    models = records.models | {name: parse_model_name(name) for name in published["model"]}
    figure = new_figure(7.4, 5.0 if one_axis else 7.4)
    panels = [figure.add_subplot()] * 2 if one_axis else list(figure.subplots(2, 1, sharex=True))
    measure, known = records.metric(metric), f"{num_classes:,} classes" if num_classes else "another task"
    own_task = f"{measure.title.removesuffix(', %')}, {known}"
    everything = pd.concat(
        [cells.assign(source=source) for source, cells in (("published", published), ("this study", table))]
    )[["model", "fraction", "mean", "num_runs", "run_ids", "source"]].reset_index(drop=True)
    ends = [
        _draw_curves(panels[0], table, models, measure.scale, is_paper=False),
        _draw_curves(panels[1], published, models, 100.0, is_paper=True),
    ]
    for panel, title in zip(panels, (measure.title, f"{PAPER_TASK}, %"), strict=True):
        subset_size_axis(panel, dict.fromkeys(sorted(everything["fraction"].unique())))
        panel.xaxis.set_major_formatter(lambda x, _: percent_text(x))
        value_axis(panel, measure.title if one_axis else title)
    panels[1].set_xlabel("share of the full pre-training set")
    facts = f"solid: this study ({own_task}); hollow: the paper ({PAPER_TASK}, JFT-300M)"
    headline(panels[0], "Beside the published curves", facts)
    for panel, labels in [(panels[0], [*ends[0], *ends[1]])] if one_axis else zip(panels, ends, strict=True):
        end_labels(panel, labels, font_size=7.5)
    apart = "" if one_axis else " The task is another one, so the accuracies stand on axes of their own."
    return Drawing(
        name=f"beside_published{records.suffix}",
        title="Beside the published curves",
        caption=(
            f"This study (solid, {own_task}) and {FIGURE_2_SOURCE} (hollow, {PAPER_TASK}), against the share of the "
            f"full pre-training set.{apart} The data, the task and the scale differ: compare "
            "shapes and orders, not values."
        ),
        figure=figure,
        points=everything,
    )


def _num_classes(records: Records, metric: str) -> int | None:
    """Classes of the test set; None where the plans do not tell them."""
    chance = chance_level(records, metric)
    return None if chance is None else round(1 / chance)


def _draw_curves(
    ax: Axes, cells: pd.DataFrame, models: Mapping[str, ModelName], scale: float, *, is_paper: bool
) -> list[EndLabel]:
    """A line per model; returns what stands at their ends."""
    look_of = looks(models.values())
    ends = []
    for model, rows in cells.groupby("model", sort=False):
        look = look_of[str(model)]
        hollow = {
            "markerfacecolor": PAPER,
            "markeredgecolor": look.colour,
            "linewidth": 0.8,
            "alpha": 0.55,
            "zorder": 2,
        }
        values = scale * rows["mean"]
        ax.plot(rows["fraction"], values, **(look.line() | hollow if is_paper else look.line()))
        text = models[str(model)].figure_title + (" (paper)" if is_paper else "")
        ends.append(EndLabel(text, float(rows["fraction"].iloc[-1]), float(values.iloc[-1]), look.ink))
    return ends
