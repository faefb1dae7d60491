"""Figure: which model is ahead at which training compute and data size, at a glance.

A cell for each budget and subset size that two models share, in the colour of the model with the best mean. Full colour
where it is distinguished from the second (P(better) at least LIKELY), pale where it is not.
"""

import pandas as pd
from matplotlib.patches import Rectangle

from analysis.figures.canvas.axes import headline
from analysis.figures.canvas.drawing import Drawing
from analysis.figures.canvas.style import INK, MUTED, PAPER, looks, new_figure
from analysis.runs.conditions import budget_names
from analysis.runs.load import Records
from scaling.readable import chance_text, count_text, percent_text

LIKELY = 0.9
_CELL_INCHES = (2.05, 1.0)
"""Width and height of a cell."""
_WEIGHTS = ("bold", "bold", "normal", "normal")


def compute_map(records: Records, leaders: pd.DataFrame, frontier: pd.DataFrame, metric: str) -> Drawing | None:
    """Rows of `analysis.comparison.equal_compute.leaders`; the star marks the rows of `frontier`. None without rows."""
    if leaders.empty:
        return None
    levels, sizes = sorted(leaders["budget"].unique()), sorted(leaders["num_images"].unique())
    measure = records.metric(metric)
    figure = new_figure(max(5.2, 1.5 + _CELL_INCHES[0] * len(levels)), 1.5 + _CELL_INCHES[1] * len(sizes))
    ax = figure.add_subplot()
    drawing = Drawing(
        name=f"compute_map{records.suffix}",
        title="Ahead at equal compute",
        caption=(
            f"The model with the best {measure.title} at each training budget and number of distinct pre-training "
            f"images, its mean, its lead over the second and P(better than the second). Full colour: P at least "
            f"{LIKELY:g}; pale: the two are not told apart. Star: the best model and subset of a budget. Costs of one "
            "budget agree within the tolerance stated in the text; intervals and probabilities cover the spread over "
            "seeds."
        ),
        figure=figure,
        points=leaders,
    )
    look_of = looks(records.models.values())
    best = {(row.budget, row.num_images) for row in frontier.itertuples()}
    for row in leaders.itertuples():
        x, y = levels.index(row.budget), sizes.index(row.num_images)
        likely = row.p_better >= LIKELY
        colour = look_of[row.ahead].colour
        ink = PAPER if likely else INK
        ax.add_patch(
            Rectangle((x - 0.48, y - 0.46), 0.96, 0.92, color=colour, alpha=1.0 if likely else 0.22, linewidth=0)
        )
        title, second = records.models[row.ahead].figure_title, records.models[row.second].figure_title
        lead = f"{measure.scale * abs(row.difference):.{measure.digits}f} over {_short(second)}"
        chance = chance_text(row.p_better)
        star = "\N{BLACK STAR} " if (row.budget, row.num_images) in best else ""
        lines = (star + _short(title), measure.text(row.mean), lead, f"P(better) {chance}" if chance else "one seed")
        for rise, size, weight, text in zip((0.28, 0.08, -0.12, -0.29), (8.5, 9.5, 7, 7), _WEIGHTS, lines, strict=True):
            ax.text(x, y + rise, text, ha="center", va="center", fontsize=size, fontweight=weight, color=ink)
        (spot,) = ax.plot([x], [y], marker="s", markersize=20, alpha=0.0, linestyle="none")
        drawing.explain(spot, [
            f"{title} {measure.text(row.mean)} (n = {row.num_runs})\n{second} {measure.text(row.second_mean)}\n"
            f"{lead}, P(better) {chance or 'unknown'}\n{row.run_ids}"
        ])  # fmt: skip
    for x in range(len(levels)):
        for y in range(len(sizes)):
            if not ((leaders["budget"] == levels[x]) & (leaders["num_images"] == sizes[y])).any():
                ax.text(x, y, "no two models", ha="center", va="center", fontsize=7, color=MUTED)
    shares = leaders.groupby("num_images")["fraction"].first()
    ax.set_xticks(range(len(levels)), budget_names(levels))
    ax.set_yticks(range(len(sizes)), [f"{count_text(size)}\n{percent_text(shares[size])}" for size in sizes])
    ax.tick_params(length=0)
    ax.set_xlim(-0.55, len(levels) - 0.45)
    ax.set_ylim(-0.55, len(sizes) - 0.45)
    ax.grid(visible=False)
    for spine in ax.spines.values():
        spine.set_visible(False)
    ax.set_xlabel("training compute, FLOPs")
    ax.set_ylabel("distinct pre-training images")
    headline(ax, drawing.title, f"{measure.title}; pale: not told apart; star: best")
    return drawing


def _short(title: str) -> str:
    """Room in a cell is for about two dozen letters."""
    return title if len(title) <= 24 else title[:23] + "…"
