"""Figure: differences between models at matched data, compute or throughput, with their intervals.

One panel per subset size would repeat the main figure; this one shows what the main figure cannot: each pair's
difference at the largest common value, sorted, with its 90 % interval, and P(better) beside it.
"""

import math
from typing import Any

import pandas as pd

from analysis.figures.canvas.axes import headline
from analysis.figures.canvas.drawing import Drawing
from analysis.figures.canvas.style import INK, MUTED, looks, new_figure
from analysis.runs.load import Records
from analysis.runs.naming import FAMILY_TITLES, parse_model_name
from scaling.readable import chance_text, cost_text

MAX_PAIRS = 28


def differences_figure(records: Records, table: pd.DataFrame, metric: str, matched: str) -> Drawing | None:
    """Pairs of `analysis.comparison.compare.COLUMNS` at the largest matched value of each pair; None for no pair.

    `matched` says in a word what is matched.
    """
    last = table.groupby(["model_a", "model_b"], sort=False).tail(1)
    if last.empty:
        return None
    measure = records.metric(metric)
    flipped = measure.direction * last["difference"] < 0
    rows = pd.DataFrame(
        {
            "better": last["model_a"].where(~flipped, last["model_b"]),
            "worse": last["model_b"].where(~flipped, last["model_a"]),
            "at": last["at"],
            "difference": last["difference"].abs(),
            "low": last["low"].where(last["difference"] >= 0, -last["high"]),
            "high": last["high"].where(last["difference"] >= 0, -last["low"]),
            "p_better": last["p_a_better"].where(~flipped, 1 - last["p_a_better"]),
            "pairs": last["pairs"],
            "evaluation_alone": last["evaluation_alone"],
        }
    )
    num_pairs = len(rows)
    rows = rows.sort_values(["difference", "better", "worse"]).reset_index(drop=True).head(MAX_PAIRS)
    closest = f"the {MAX_PAIRS} closest of {num_pairs} pairs, " if num_pairs > MAX_PAIRS else ""
    scale = measure.scale
    families = set(records.runs["family"]) - records.models.keys()
    names = records.models | {family: parse_model_name(family, family) for family in sorted(families)}
    look_of = looks(name for name in names.values() if name.name not in records.models) | looks(records.models.values())
    titles = {name: FAMILY_TITLES.get(name, model.figure_title) for name, model in names.items()}
    pairs = [f"{titles[row.better]} over {titles[row.worse]}" for row in rows.itertuples()]
    # 0.058 inches are a character of the pairs' names; what they leave is the width of the axes.
    figure = new_figure(max(7.0, 3.6 + 0.058 * max(map(len, pairs))), 1.3 + 0.24 * len(rows))
    ax = figure.add_subplot()
    drawing = Drawing(
        name=f"differences_{matched}{records.suffix}",
        title=f"Differences at matched {matched}",
        caption=(
            f"Difference in {measure.title} between two models at their largest common value of {matched}, "
            "sorted, with 90 % intervals over paired seeds; where models were scored on other test images or support "
            "draws, with the noise of that, too. On the right: the probability that the first is better. Pairs whose "
            "interval crosses 0 cannot be told apart."
            + (f" Drawn are {closest.removesuffix(', ')}; comparisons.csv has all." if closest else "")
        ),
        figure=figure,
        points=rows,
    )
    kind = str(table["matched"].iloc[0])
    places = range(len(rows))
    alone = rows["low"].isna() & rows["evaluation_alone"].notna()
    ax.axvline(0.0, color=MUTED, linewidth=0.9)
    for place, row in zip(places, rows.itertuples(), strict=True):
        look = look_of[str(row.better)]
        ax.plot([scale * row.low, scale * row.high], [place, place], color=look.colour, linewidth=1.6, alpha=0.6)
        if alone[place]:
            reach = scale * (row.difference - row.evaluation_alone), scale * (row.difference + row.evaluation_alone)
            ax.plot(reach, [place, place], color=look.colour, linewidth=1.0, alpha=0.6, linestyle=":")
        (dot,) = ax.plot([scale * row.difference], [place], **look.dots())
        chance = chance_text(row.p_better)
        drawing.explain(dot, [
            f"{titles[row.better]} - {titles[row.worse]} at {cost_text(kind, row.at)}\n{scale * row.difference:.2f} "
            f"{interval_tip(row, scale)}, P(better) {chance or 'unknown'}, {row.pairs} pairs"
        ])  # fmt: skip
        ax.text(1.01, place, chance, transform=ax.get_yaxis_transform(), va="center", fontsize=7.5, color=INK)
    ax.set_yticks(list(places), pairs)
    ax.tick_params(axis="y", length=0, labelsize=7.5)
    ax.grid(visible=False, axis="y")
    ax.set_ylim(-0.7, len(rows) - 0.3)
    points = measure.title.replace(", %", ", percentage points")
    ax.set_xlabel(f"difference in {points}")
    ax.text(1.01, len(rows) - 0.3, "P(better)", transform=ax.get_yaxis_transform(), fontsize=7.5, color=MUTED)
    ends = [cost_text(kind, at) for at in (rows["at"].min(), rows["at"].max())]
    where = ends[0] if ends[0] == ends[1] else f"the largest value that both have, {ends[0]} to {ends[1]}"
    bars = "one seed, no interval" if rows["low"].isna().all() else "bars: 90 % interval over paired seeds"
    bars += "; dotted: the noise of the evaluations alone" if alone.any() else ""
    headline(ax, drawing.title, f"{closest}at {where}; {bars}")
    return drawing


def interval_tip(row: Any, scale: float) -> str:
    """The interval of a row of `analysis.comparison.compare.COLUMNS`, times `scale`, where a reader points."""
    if math.isnan(row.low):
        alone = "" if math.isnan(row.evaluation_alone) else f" (± {scale * row.evaluation_alone:.2f}, evaluation alone)"
        return f"without an interval{alone}"
    return f"[{scale * row.low:+.2f}, {scale * row.high:+.2f}]"
