"""Figures: every evaluation against pre-training size, each alone and all of them as a matrix of small panels.

What one evaluation shows another may deny; the headline alone would hide it.
"""

import re

import pandas as pd
from matplotlib.lines import Line2D

from analysis.figures.accuracy_vs_size import accuracy_vs_size
from analysis.figures.canvas.axes import subset_size_axis
from analysis.figures.canvas.drawing import Drawing
from analysis.figures.canvas.panels import legend_above, panel_grid
from analysis.figures.canvas.style import MUTED, looks
from analysis.runs.evaluations import chance_level
from analysis.runs.load import Records
from analysis.runs.summary import cells
from scaling.readable import count_text, spread_text


def evaluation_figure(records: Records, table: pd.DataFrame, metric: str) -> Drawing:
    """One evaluation, drawn like the headline."""
    slug = re.sub(r"[^a-z0-9]+", "-", metric.lower()).strip("-")
    title = f"{records.metric(metric).title.removesuffix(', %')} and pre-training size"
    return accuracy_vs_size(records, table, metric, name=f"evaluation_{slug}", title=title)


def evaluation_matrix(records: Records, metrics: list[str]) -> Drawing | None:
    """A panel per evaluation, each with a scale of its own; None for fewer than two."""
    if len(metrics) < 2:
        return None
    figure, panels = panel_grid(
        len(metrics), "distinct pre-training images", "", share_y=False, num_entries=records.runs["model"].nunique()
    )
    look_of = looks(records.models.values())
    drawing = Drawing(
        name=f"evaluations{records.suffix}",
        title="All evaluations",
        caption=(
            "Every evaluation against the number of distinct pre-training images, each on a scale of its own. Lines: "
            "means over runs; bars: smallest to largest run. Dotted: chance, where the classes tell it."
        ),
        figure=figure,
        points=pd.concat([cells(records, metric).assign(metric=metric) for metric in metrics], ignore_index=True),
    )
    shown: list[str] = []
    for panel, metric in zip(panels, metrics, strict=True):
        measure = records.metric(metric)
        for model, rows in cells(records, metric).groupby("model", sort=False):
            look, title = look_of[str(model)], records.models[str(model)].title
            panel.vlines(rows["num_images"], measure.scale * rows["min"], measure.scale * rows["max"], **look.bar())
            style = look.line() | {"markersize": 0.75 * look.marker_size}
            (line,) = panel.plot(rows["num_images"], measure.scale * rows["mean"], **style)
            drawing.explain(line, [
                f"{title}\n{count_text(row.num_images)} images\n"
                f"{spread_text(measure.scale * row.mean, measure.scale * row.sd, measure.digits)}, n = {row.num_runs}"
                for row in rows.itertuples()
            ])  # fmt: skip
            shown += [str(model)] * (str(model) not in shown)
        chance = chance_level(records, metric)
        if chance is not None:
            panel.axhline(measure.scale * chance, color=MUTED, linewidth=0.9, linestyle=":", zorder=1)
        panel.set_title(measure.title, fontsize=8, pad=4)
    sizes = sorted(records.runs["num_images"].unique())
    subset_size_axis(panels[0], dict.fromkeys(sizes), min_gap=0.2)
    handles = [Line2D([], [], **look_of[model].line(), label=records.models[model].figure_title) for model in shown]
    legend_above(figure, handles)
    return drawing
