"""Figures of training itself: upstream validation on the way, and how much better a model fits what it was trained on.

Learning curves have a panel per model and a line per subset size. Every validation made on the way is drawn; nothing is
smoothed. The kept weights are those of the best validation, so the highest point of a line is what the other figures
score.

The gap is validation minus training loss (nats per image) at the end of training, from the logs: the mean training loss
of the last log interval and the upstream validation of the last step. A log without them gives no gap. Where
augmentation makes training harder the gap can be negative; its growth towards small subsets is what shows overfitting
(Mixer Section 3.3).
"""

from collections.abc import Container, Sequence

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.collections import LineCollection

from analysis.figures.accuracy_vs_size import against_size
from analysis.figures.canvas.drawing import Drawing
from analysis.figures.canvas.panels import legend_above, panel_font_size, panel_grid
from analysis.figures.canvas.style import MUTED
from analysis.runs.load import Records
from analysis.runs.metrics import UPSTREAM_METRIC
from analysis.runs.summary import cells
from scaling.readable import count_text, counted, named, number_text

_MAX_POINTS = 60
"""Points drawn per run; a longer log is thinned evenly, first and last kept."""
_MAX_NAMED = 6
"""Runs named in a caption."""


def learning_curves(records: Records, rows: pd.DataFrame, metric: str = UPSTREAM_METRIC) -> Drawing | None:
    """None when no run logged the metric during training."""
    if metric not in rows:
        return None
    columns = ["run_id", "step", "examples_seen", metric]
    logged = rows.loc[rows[metric].notna() & (rows["kind"] != "done"), columns].merge(
        records.runs[["run_id", "model", "num_images", "seed"]], on="run_id"
    )
    if logged.empty:
        return None
    ends = records.runs.set_index("run_id")["examples_seen"]
    short = ends.index[_last(rows, metric)["examples_seen"].reindex(ends.index) != ends].tolist()
    cut = f" The logs of {_named(short, len(ends))} do not reach the end of training: their lines are short or missing."
    logged = _thin(logged)
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
        curves = [
            (size, np.column_stack([run["examples_seen"], scale * run[metric]]))
            for (size, _), run in own.groupby(["num_images", "run_id"], sort=True)
        ]
        # One collection takes a fifth less time than a line for each of a thousand runs.
        lines = LineCollection(
            [points for _, points in curves], colors=[colour_of[size] for size, _ in curves], linewidths=1.1, alpha=0.9,
            capstyle=mpl.rcParams["lines.solid_capstyle"], joinstyle=mpl.rcParams["lines.solid_joinstyle"], zorder=2
        )  # fmt: skip
        panel.add_collection(lines)
        panel.autoscale_view()
        title = records.models[model].panel_title
        panel.set_title(title, fontsize=panel_font_size(title), pad=4)
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
            f"pre-training images (dark: few, light: many).{cut if short else ''}"
        ),
        figure=figure,
        points=logged,
    )


def _thin(logged: pd.DataFrame) -> pd.DataFrame:
    """The rows by run and step, those of long logs thinned."""
    ordered = logged.sort_values(["run_id", "step"], kind="stable", ignore_index=True)
    place = ordered.groupby("run_id", sort=False).cumcount()
    length = ordered["run_id"].map(ordered["run_id"].value_counts())
    kept_of = {count: _kept(count) for count in length.unique()}
    kept = [at in kept_of[count] for at, count in zip(place, length, strict=True)]
    return ordered[kept].reset_index(drop=True)


def _kept(length: int) -> Container[int]:
    """Places of the rows that are drawn of a log of so many."""
    if length <= _MAX_POINTS:
        return range(length)
    return {round(i * (length - 1) / (_MAX_POINTS - 1)) for i in range(_MAX_POINTS)}


GAP = "overfit/loss_gap"
UPSTREAM_LOSS = "upstream/loss"


def with_gap(records: Records, rows: pd.DataFrame) -> pd.DataFrame:
    """The runs with column GAP; NaN where a log lacks the validation at the end of training or the training loss of the
    last log interval."""
    runs = records.runs.copy()
    if not {"loss", UPSTREAM_LOSS} <= set(rows.columns):
        return runs.assign(**{GAP: float("nan")})
    validated, trained = (_last(rows, name) for name in (UPSTREAM_LOSS, "loss"))
    ends = runs.set_index("run_id")["examples_seen"]
    # A run that ends out of patience may end between two rows of its training loss.
    interval = pd.Series(
        {run: plan.intervals.log_steps * plan.schedule.batch for run, plan in records.plans.items()}, dtype=float
    )
    since = ends - trained["examples_seen"].reindex(ends.index)
    is_whole = (validated["examples_seen"].reindex(ends.index) == ends) & (since < interval.reindex(ends.index))
    gap = (validated[UPSTREAM_LOSS] - trained["loss"]).reindex(ends.index).where(is_whole)
    return runs.assign(**{GAP: runs["run_id"].map(gap)})


def _last(rows: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The last row of each run that was logged with the metric, by run_id."""
    # A done row repeats the kept weights' scores, which may be earlier ones.
    logged = rows[rows[metric].notna() & (rows["kind"] != "done")]
    return logged.sort_values("step", kind="stable").drop_duplicates("run_id", keep="last").set_index("run_id")


def _named(run_ids: Sequence[str], num_runs: int) -> str:
    """`2 of 24 runs (a, b)`."""
    return f"{len(run_ids)} of {counted(num_runs, 'run')} ({named(run_ids, _MAX_NAMED)})"


def overfit_figure(records: Records) -> Drawing | None:
    """None when no run logged both losses. `records.runs` holds column GAP."""
    if records.runs[GAP].isna().all():
        return None
    lacking = records.runs.loc[records.runs[GAP].isna(), "run_id"].tolist()
    left_out = f" Left out, without both losses at the end of their logs: {_named(lacking, len(records.runs))}."
    drawing = against_size(
        records,
        cells(records, GAP),
        GAP,
        name="overfit",
        title="Overfitting and pre-training size",
        y_label="validation - training loss, nats per image",
        facts="mean; band: smallest to largest run; at the end of training; above 0: fits its own images better",
        caption=(
            "Upstream validation loss minus training loss at the end of training, against the number of distinct "
            "pre-training images. Lines: mean over runs; band: smallest to largest run. Above 0 a model fits its own "
            f"images better than new ones.{left_out if lacking else ''}"
        ),
    )
    drawing.figure.axes[0].axhline(0.0, color=MUTED, linewidth=0.8, zorder=1)
    return drawing
