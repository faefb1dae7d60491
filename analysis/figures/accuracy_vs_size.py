"""Figure: metric against pre-training size, one line per model (the shape of Mixer Figure 2, right).

Lines join means over runs; the band runs from the smallest to the largest run; every run is a small point. Nothing is
interpolated, smoothed or left out: a size that a model lacks is a gap in its points, and the caption says so.
"""

import pandas as pd
from matplotlib.axes import Axes

from analysis.figures.canvas.axes import EndLabel, end_labels, headline, subset_size_axis, value_axis
from analysis.figures.canvas.drawing import Drawing
from analysis.figures.canvas.style import MUTED, height_for, looks, new_figure
from analysis.runs.evaluations import chance_level, evaluation_noise
from analysis.runs.load import Records
from analysis.runs.metrics import Metric
from scaling.readable import count_text, percent_text, range_text, spread_text


def accuracy_vs_size(
    records: Records,
    table: pd.DataFrame,
    metric: str,
    *,
    name: str = "accuracy_vs_size",
    title: str = "Accuracy and pre-training size",
) -> Drawing:
    """Draw the cells of `analysis.runs.summary.cells` and the runs behind them, the level of chance, and the noise of
    the evaluation where it is known."""
    return against_size(
        records,
        table,
        metric,
        name=name,
        title=title,
        y_label=records.metric(metric).title,
        facts=_facts(table),
        caption=_caption(records, table, metric),
    )


def against_size(
    records: Records, table: pd.DataFrame, metric: str, *, name: str, title: str, y_label: str, facts: str, caption: str
) -> Drawing:
    """Cells of any metric against the number of distinct pre-training images."""
    figure = new_figure(height=height_for(table["model"].nunique()))
    ax = figure.add_subplot()
    drawing = Drawing(f"{name}{records.suffix}", title, caption, figure, table)
    scale = records.metric(metric).scale
    look_of = looks(records.models.values())
    ends = []
    for model, rows in table.groupby("model", sort=False):
        look, images, mean = look_of[str(model)], rows["num_images"], scale * rows["mean"]
        if (rows["num_runs"] > 1).any():
            ax.fill_between(
                images, scale * rows["min"], scale * rows["max"], color=look.colour, alpha=0.13, linewidth=0
            )
            runs = records.runs[(records.runs["model"] == model) & records.runs[metric].notna()]
            faint = look.dots(0.45) | {"alpha": 0.5, "markeredgewidth": 0, "zorder": 2}
            ax.plot(runs["num_images"], scale * runs[metric], **faint)
        (line,) = ax.plot(images, mean, **look.line())
        model_title = records.models[str(model)].title
        drawing.explain(line, [_tip(model_title, row, records.metric(metric)) for row in rows.itertuples()])
        ends.append(
            EndLabel(records.models[str(model)].figure_title, float(images.iloc[-1]), float(mean.iloc[-1]), look.ink)
        )
    shares = table.groupby("num_images")["fraction"].agg(lambda s: s.iloc[0] if s.nunique() == 1 else None)
    subset_size_axis(ax, shares.to_dict())
    ax.set_xlabel("distinct pre-training images (share of the full set)")
    value_axis(ax, y_label)
    _chance_and_noise(ax, records, table, metric)
    headline(ax, title, facts)
    end_labels(ax, ends)
    return drawing


def _chance_and_noise(ax: Axes, records: Records, table: pd.DataFrame, metric: str) -> None:
    """A dotted line at chance and a grey bar of evaluation noise behind each mean, where the plans tell them."""
    measure, chance = records.metric(metric), chance_level(records, metric)
    noise = evaluation_noise(records, metric)
    if noise is not None:
        reach = table["mean"].map(noise.total)
        low, high = measure.scale * (table["mean"] - reach), measure.scale * (table["mean"] + reach)
        ax.vlines(table["num_images"], low, high, color=MUTED, linewidth=5, alpha=0.18, zorder=1)
    if chance is not None:
        ax.axhline(measure.scale * chance, color=MUTED, linewidth=0.9, linestyle=":", zorder=1)
        ax.annotate("chance", xy=(0.0, measure.scale * chance), xycoords=ax.get_yaxis_transform(), xytext=(3, 2),
                    textcoords="offset points", fontsize=7.5, color=MUTED)  # fmt: skip


def _tip(title: str, row: object, measure: Metric) -> str:
    scale, digits = measure.scale, measure.digits
    return (
        f"{title}\n{count_text(row.num_images)} images ({percent_text(row.fraction)})\n"  # type: ignore[attr-defined]
        f"{spread_text(scale * row.mean, scale * row.sd, digits)}, n = {row.num_runs}\n{row.run_ids}"  # type: ignore[attr-defined]
    )


def _run_counts(table: pd.DataFrame) -> str:
    return "n = " + range_text(table["num_runs"].min(), table["num_runs"].max(), "run")


def _facts(table: pd.DataFrame) -> str:
    counts = _run_counts(table)
    if table["num_runs"].max() == 1:
        return f"{counts} a point: the spread between runs is not known"
    return f"mean; band: smallest to largest run; {counts} a point"


def _caption(records: Records, table: pd.DataFrame, metric: str) -> str:
    text = (
        f"{records.metric(metric).title} against the number of distinct pre-training images (log scale). "
        "Large markers and lines: mean over independent training runs. "
    )
    if table["num_runs"].max() == 1:
        text += "Each point is one run (n = 1), so no spread is shown."
    else:
        text += f"Band and small markers: the smallest to the largest run ({_run_counts(table)} a point)."
    sizes = set(table["num_images"])
    for model, rows in table.groupby("model", sort=False):
        lacking = sorted(sizes - set(rows["num_images"]))
        if lacking:
            sizes_text = ", ".join(count_text(size) for size in lacking)
            text += f" {records.models[str(model)].title} has no finished run at {sizes_text}."
    if chance_level(records, metric) is not None:
        text += f" Dotted: chance, {records.metric(metric).text(chance_level(records, metric) or 0.0)} %."
    if evaluation_noise(records, metric) is not None:
        text += " Grey bars: 90 % noise of the evaluation of one run (test images and, where there are, support draws)."
    return text
