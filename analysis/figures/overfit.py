"""Figure: how far each model fits its training subset better than unseen images, by subset size.

The gap is validation minus training loss (nats per image) at the end of training, from the logs: the mean training loss
of the last log interval and the last upstream validation. Where augmentation makes training harder the gap can be
negative; its growth towards small subsets is what shows overfitting (Mixer Section 3.3).
"""

import pandas as pd

from analysis.figures.accuracy_vs_size import against_size
from analysis.figures.canvas.drawing import Drawing
from analysis.figures.canvas.style import MUTED
from analysis.runs.load import Records
from analysis.runs.summary import cells

GAP = "overfit/loss_gap"


def with_gap(records: Records, rows: pd.DataFrame) -> pd.DataFrame:
    """The runs with column GAP; NaN where a log lacks either loss."""
    runs = records.runs.copy()
    if not {"loss", "upstream/loss"} <= set(rows.columns):
        return runs.assign(**{GAP: float("nan")})
    trained = rows[rows["kind"] != "done"]  # a done row repeats the kept weights' scores, which may be earlier ones
    last = trained.sort_values("step", kind="stable").groupby("run_id")[["loss", "upstream/loss"]].last()
    gap = last["upstream/loss"] - last["loss"]
    return runs.assign(**{GAP: runs["run_id"].map(gap)})


def overfit_figure(records: Records) -> Drawing | None:
    """None when no run logged both losses. `records.runs` holds column GAP."""
    if records.runs[GAP].isna().all():
        return None
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
            "images better than new ones."
        ),
    )
    drawing.figure.axes[0].axhline(0.0, color=MUTED, linewidth=0.8, zorder=1)
    return drawing
