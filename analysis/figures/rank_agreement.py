"""Figure: each other yardstick against the headline, a dot per model and size, to see where their orders part."""

import math

import pandas as pd
from matplotlib.lines import Line2D

from analysis.figures.canvas.drawing import Drawing
from analysis.figures.canvas.panels import legend_above, panel_grid
from analysis.figures.canvas.style import looks
from analysis.runs.load import Records
from scaling.readable import count_text

MAX_PANELS = 12


def agreement_text(row: pd.Series) -> str:
    """`τ = 0.67 (0.33 to 1.00)`, the interval where there is one."""
    if math.isnan(row["tau"]):
        return "τ: no order"
    interval = "" if math.isnan(row["low"]) else f" ({row['low']:.2f} to {row['high']:.2f})"
    return f"τ = {row['tau']:.2f}{interval}"


def agreement_figure(records: Records, table: pd.DataFrame, metric: str) -> Drawing:
    """A panel per yardstick of `rank_agreement`'s table, at most MAX_PANELS; tau over all sizes in its title."""
    others = list(dict.fromkeys(table["metric_b"]))[:MAX_PANELS]
    measure, look_of = records.metric(metric), looks(records.models.values())
    runs = records.runs[records.runs[metric].notna()]
    figure, panels = panel_grid(
        len(others), measure.title, "", share_y=False, num_entries=records.runs["model"].nunique()
    )
    means = [
        runs[runs[other].notna()]
        .groupby(["model", "num_images"], sort=False)[[metric, other]]
        .mean()
        .rename(columns={metric: "a", other: "b"})
        .reset_index()
        .assign(metric_b=other)
        for other in others
    ]
    drawing = Drawing(
        name=f"rank_agreement{records.suffix}",
        title="Do evaluations agree about the order of models?",
        caption=(
            "Means over runs, a dot per model and size of the pre-training set. τ: Kendall's tau-b over pairs of "
            "models at one size, added up over sizes, with a 90 % bootstrap interval over seeds where every model has "
            "several."
        ),
        figure=figure,
        points=pd.concat(means, ignore_index=True),
    )
    shown: dict[str, None] = {}
    for panel, other, points in zip(panels, others, means, strict=True):
        second = records.metric(other)
        for model, rows in points.groupby("model", sort=False):
            (dots,) = panel.plot(measure.scale * rows["a"], second.scale * rows["b"], **look_of[str(model)].dots())
            drawing.explain(dots, [
                f"{records.models[str(model)].title}\n{count_text(row.num_images)} images\n"
                f"{measure.text(row.a)} and {second.text(row.b)}" for row in rows.itertuples()
            ])  # fmt: skip
            shown[str(model)] = None
        whole = table[table["metric_b"] == other].iloc[-1]
        panel.set_title(f"{second.title}\n{agreement_text(whole)}", fontsize=8, pad=4)
        panel.margins(0.12)
    legend_above(
        figure, [Line2D([], [], **look_of[one].dots(), label=records.models[one].figure_title) for one in shown]
    )
    return drawing
