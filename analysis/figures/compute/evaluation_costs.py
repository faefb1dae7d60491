"""Figures: every evaluation against training compute and against throughput, a small panel each.

The headline has figures of its own; these show whether another evaluation, or the mean of a suite, would rank the
models otherwise at the same cost.
"""

import pandas as pd
from matplotlib.lines import Line2D

from analysis.figures.accuracy_vs_throughput import BUSY_MARK, disturbance_text, place_suffix, throughput_points
from analysis.figures.canvas.axes import log_axis
from analysis.figures.canvas.drawing import Drawing
from analysis.figures.canvas.panels import legend_above, panel_grid
from analysis.figures.canvas.style import looks
from analysis.figures.compute.accuracy_vs_cost import cost_cells, is_known
from analysis.runs.load import Records
from analysis.runs.speeds import places, speeds
from analysis.runs.summary import cells
from scaling.readable import cost_text, count_text, number_text, power_text, spread_text


def evaluations_vs_compute(records: Records, metrics: list[str]) -> Drawing | None:
    """A panel per evaluation, a line per model through its sizes; None for fewer than two or unknown FLOPs."""
    if len(metrics) < 2 or not is_known(records.runs, "flops"):
        return None
    tables = [
        cost_cells(records, records.runs[records.runs[metric].notna()], metric, "flops").assign(metric=metric)
        for metric in metrics
    ]
    points = pd.concat(tables, ignore_index=True).rename(columns={"cost_mean": "x"})
    caption = (
        "Every evaluation against training compute, each on a scale of its own. Lines: means over the runs of a model "
        "at each of its sizes; bars: smallest to largest run; the larger marker is the largest size."
    )
    return _panels(
        records, points, metrics, f"evaluations_vs_flops{records.suffix}", "Evaluations and compute", caption,
        "training compute, FLOPs", "flops",
    )  # fmt: skip


def evaluations_vs_throughput(records: Records, metrics: list[str]) -> list[Drawing]:
    """The same for throughput, one drawing per place where it was measured."""
    if len(metrics) < 2:
        return []
    rates = speeds(records)
    points = pd.concat(
        [throughput_points(records, rates, cells(records, metric)).assign(metric=metric) for metric in metrics],
        ignore_index=True,
    ).rename(columns={"throughput_median": "x"})
    groups = places(points)
    drawings = []
    for where, rows in groups:
        work = rows["work"].iloc[0]
        caption = (
            f"Every evaluation against {work} throughput on {where}, each on a scale of its own, at the largest number "
            f"of pre-training images that all models share. Bars: smallest to largest run."
            f"{disturbance_text(records, rows)}"
        )
        drawings.append(
            _panels(
                records,
                rows.reset_index(drop=True),
                metrics,
                f"evaluations_vs_throughput{records.suffix}{place_suffix(where, len(groups))}",
                "Evaluations and throughput",
                caption,
                f"{work} throughput, images/s ({where})",
                "throughput",
            )
        )
    return drawings


def _panels(
    records: Records,
    points: pd.DataFrame,
    metrics: list[str],
    name: str,
    title: str,
    caption: str,
    x_label: str,
    cost: str,
) -> Drawing:
    """`points` has columns x, metric, model and those of a cell."""
    present = [metric for metric in metrics if metric in set(points["metric"])]
    models = list(dict.fromkeys(points["model"]))
    figure, panels = panel_grid(len(present), x_label, "", share_y=False, num_entries=len(models))
    look_of = looks(records.models.values())
    drawing = Drawing(name=name, title=title, caption=caption, figure=figure, points=points)
    for panel, metric in zip(panels, present, strict=True):
        measure = records.metric(metric)
        for model, rows in points[points["metric"] == metric].groupby("model", sort=False):
            look, ends = look_of[str(model)], rows.iloc[[-1]]
            panel.vlines(rows["x"], measure.scale * rows["min"], measure.scale * rows["max"], **look.bar())
            panel.plot(rows["x"], measure.scale * rows["mean"], color=look.colour, linewidth=0.6 * look.line_width)
            for part, size in ((rows.iloc[:-1], 0.8), (ends, 1.25)):
                (dots,) = panel.plot(part["x"], measure.scale * part["mean"], **look.dots(size))
                drawing.explain(dots, [
                    f"{records.models[str(model)].title}, {count_text(row.num_images)} images\n"
                    f"{cost_text(cost, row.x)}\n"
                    f"{spread_text(measure.scale * row.mean, measure.scale * row.sd, measure.digits)}, "
                    f"n = {row.num_runs}"
                    for row in part.itertuples()
                ])  # fmt: skip
        panel.set_title(measure.title, fontsize=8, pad=4)
    log_axis(panels[0], list(points["x"]), power_text if cost == "flops" else number_text)
    for panel in panels:
        panel.tick_params(axis="x", labelsize=7)
    busy = set(points.loc[points["disturbances"] != "", "model"]) if "disturbances" in points else set()
    titles = {model: records.models[model].figure_title + f" {BUSY_MARK}" * (model in busy) for model in models}
    legend_above(figure, [Line2D([], [], **look_of[model].line(), label=titles[model]) for model in models])
    return drawing
