"""Figure: how far each model fits its training subset better than unseen images, by subset size.

The gap is validation minus training loss (nats per image) at the end of training, from the logs: the mean training loss
of the last log interval and the last upstream validation. Where augmentation makes training harder the gap can be
negative; its growth towards small subsets is what shows overfitting (Mixer Section 3.3).
"""

import pandas as pd

from analysis.axes import EndLabel, end_labels, headline, subset_size_axis, value_axis
from analysis.drawing import Drawing
from analysis.load import Records
from analysis.numbers import count_text, spread_text
from analysis.style import MUTED, looks, new_figure
from analysis.summary import cells

GAP = "overfit/loss_gap"


def with_gap(records: Records, rows: pd.DataFrame) -> pd.DataFrame:
    """The runs with column GAP; NaN where a log lacks either loss."""
    runs = records.runs.copy()
    if not {"loss", "upstream/loss"} <= set(rows.columns):
        return runs.assign(**{GAP: float("nan")})
    last = rows.sort_values("step", kind="stable").groupby("run_id")[["loss", "upstream/loss"]].last()
    gap = last["upstream/loss"] - last["loss"]
    return runs.assign(**{GAP: runs["run_id"].map(gap)})


def overfit_figure(records: Records) -> Drawing | None:
    """None when no run logged both losses. `records.runs` holds column GAP."""
    if records.runs[GAP].isna().all():
        return None
    table = cells(records, GAP)
    figure = new_figure()
    ax = figure.add_subplot()
    drawing = Drawing(
        name=f"overfit{records.suffix}",
        title="Overfitting and pre-training size",
        caption=(
            "Upstream validation loss minus training loss at the end of training, against the number of distinct "
            "pre-training images. Lines: mean over runs; band: smallest to largest run. Above 0 a model fits its own "
            "images better than new ones."
        ),
        figure=figure,
        points=table,
    )
    look_of = looks(records.models.values())
    ends = []
    ax.axhline(0.0, color=MUTED, linewidth=0.8, zorder=1)
    for model, rows in table.groupby("model", sort=False):
        look = look_of[str(model)]
        title = records.models[str(model)].title
        if (rows["num_runs"] > 1).any():
            ax.fill_between(rows["num_images"], rows["min"], rows["max"], color=look.colour, alpha=0.13, linewidth=0)
        (line,) = ax.plot(rows["num_images"], rows["mean"], color=look.colour, marker=look.marker, zorder=3,
                          markersize=look.marker_size, linewidth=look.line_width, markeredgecolor="white",
                          markeredgewidth=0.7)  # fmt: skip
        drawing.explain(
            line,
            [
                f"{title}, {count_text(row.num_images)} images\nvalidation - training loss "
                f"{spread_text(row.mean, row.sd, 3)}, n = {row.num_runs}\n{row.run_ids}"
                for row in rows.itertuples()
            ],
        )
        ends.append(EndLabel(title, float(rows["num_images"].iloc[-1]), float(rows["mean"].iloc[-1]), look.colour))
    subset_size_axis(ax, table.groupby("num_images")["fraction"].first().to_dict())
    ax.set_xlabel("distinct pre-training images (share of the full set)")
    value_axis(ax, "validation - training loss, nats per image")
    headline(ax, drawing.title, "mean; band: smallest to largest run; at the end of training")
    end_labels(ax, ends)
    return drawing
