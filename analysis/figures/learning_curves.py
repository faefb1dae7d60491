"""Figure: upstream validation during training, a panel per model and a line per subset size.

Every validation made on the way is drawn; nothing is smoothed. The kept weights are those of the best validation, so
the highest point of a line is what the other figures score.
"""

import matplotlib as mpl
import pandas as pd

from analysis.figures.canvas.drawing import Drawing
from analysis.figures.canvas.panels import legend_above, panel_grid
from analysis.runs.load import Records
from analysis.runs.metrics import UPSTREAM_METRIC
from scaling.readable import count_text, number_text

_MAX_POINTS = 60
"""Points drawn per run; a longer log is thinned evenly, first and last kept."""


def learning_curves(records: Records, rows: pd.DataFrame, metric: str = UPSTREAM_METRIC) -> Drawing | None:
    """None when no run logged the metric during training."""
    if metric not in rows:
        return None
    columns = ["run_id", "step", "examples_seen", metric]
    logged = rows.loc[rows[metric].notna() & (rows["kind"] != "done"), columns].merge(
        records.runs[["run_id", "model", "num_images", "seed"]], on="run_id"
    )
    logged = pd.concat([_thin(run) for _, run in logged.groupby("run_id", sort=True)], ignore_index=True)
    if logged.empty:
        return None
    models = sorted(logged["model"].unique(), key=lambda model: records.models[model])
    figure, panels = panel_grid(
        len(models), "training examples seen, repetitions counted", records.metric(metric).title
    )
    sizes = sorted(logged["num_images"].unique())
    shades = mpl.colormaps["viridis"].resampled(256)
    colour_of = {size: shades(0.08 + 0.8 * rank / max(len(sizes) - 1, 1)) for rank, size in enumerate(sizes)}
    scale = records.metric(metric).scale
    for panel, model in zip(panels, models, strict=True):
        own = logged[logged["model"] == model]
        for (size, _), run in own.groupby(["num_images", "run_id"], sort=True):
            panel.plot(run["examples_seen"], scale * run[metric], color=colour_of[size], linewidth=1.1, alpha=0.9)
        panel.set_title(records.models[model].panel_title, fontsize=9, pad=4)
        panel.xaxis.set_major_formatter(lambda value, _: number_text(value) if value > 0 else "0")
        panel.xaxis.set_major_locator(mpl.ticker.MaxNLocator(4))
    legend_above(
        figure,
        [
            mpl.lines.Line2D([], [], color=colour_of[size], linewidth=2, label=f"{count_text(size)} images")
            for size in sizes
        ],
    )
    return Drawing(
        name=f"learning_curves{records.suffix}",
        title="Upstream validation during training",
        caption=(
            f"{records.metric(metric).title} during training, one line per run, coloured by the number of distinct "
            "pre-training images (dark: few, light: many)."
        ),
        figure=figure,
        points=logged,
    )


def _thin(run: pd.DataFrame) -> pd.DataFrame:
    ordered = run.sort_values("step", kind="stable")
    if len(ordered) <= _MAX_POINTS:
        return ordered
    keep = sorted({round(i * (len(ordered) - 1) / (_MAX_POINTS - 1)) for i in range(_MAX_POINTS)})
    return ordered.iloc[keep]
