"""Figures: the scores of a search's trials against each searched setting, a panel for each cell.

Every trial is a point, a hollow one where the search stopped it, at what it had come to by then; a trial without any
score is a cross at the worse end of its panel, so that a setting at which training fails is seen. The chosen value is
ringed. With several settings searched at once, each figure shows one of them and the spread at a value comes from the
others.
"""

import json

import pandas as pd

from analysis.figures.canvas.axes import log_axis
from analysis.figures.canvas.drawing import Drawing
from analysis.figures.canvas.panels import panel_grid
from analysis.figures.canvas.style import INK, MUTED
from analysis.runs.metrics import known_metric
from scaling.records.scores.search import value_text, values_text

_COLOUR = "#56b4e9"
_FAILED = "#d55e00"
_HOLLOW = "Hollow: a trial that the search stopped, at what it had come to by then. "
MAX_PANELS = 24
"""Cells that are drawn; the table has all."""


def search_figures(searches: pd.DataFrame) -> list[Drawing]:
    """One for each setting searched by a study; none without any score."""
    drawings = []
    for study, trials in searches.groupby("study", sort=False):
        several = searches["study"].nunique() > 1
        names = list(dict.fromkeys(name for text in trials["values"] for name in json.loads(text)))
        for name in names:
            if trials["score"].notna().any():
                drawings.append(_figure(trials, name, f"_{study}" if several else ""))
    return drawings


def _figure(trials: pd.DataFrame, name: str, suffix: str) -> Drawing:
    metric = known_metric(str(trials["metric"].iloc[0]))
    cells = list(dict.fromkeys(trials["cell"]))[:MAX_PANELS]
    points = trials.assign(value=[json.loads(text).get(name) for text in trials["values"]])
    values = [value for value in points["value"] if value is not None]
    is_number = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    places = {text: place for place, text in enumerate(dict.fromkeys(map(value_text, values)))}
    stops = bool(points["stopped_step"].notna().any())
    figure, panels = panel_grid(len(cells), name.replace("_", " "), metric.title)
    drawing = Drawing(
        name=f"search_{name.replace('.', '_')}{suffix}",
        title=f"Search: {name.replace('_', ' ')}",
        caption=(
            f"{metric.title} of every trial ({'higher' if metric.direction > 0 else 'lower'} is better) against "
            f"{name.replace('_', ' ')}, a panel for each cell. Ring: the chosen trial. {_HOLLOW if stops else ''}"
            "Cross: a trial without a score, drawn at the worse end. A ring at the end of the points says that better "
            "values may lie beyond."
        ),
        figure=figure,
        points=points,
    )
    scored = metric.scale * pd.concat([points["score"].dropna(), points["stopped_score"].dropna()])
    worst = float(scored.min() if metric.direction > 0 else scored.max())
    for panel, cell in zip(panels, cells, strict=True):
        own = points[points["cell"] == cell]
        x = [value if is_number else places[value_text(value)] for value in own["value"]]
        own = own.assign(x=x, y=metric.scale * own["score"].fillna(own["stopped_score"]))
        good, best = own[own["score"].notna()], own[own["is_best"]]
        early, bad = own[own["stopped_score"].notna()], own[own["y"].isna()]
        (hollow,) = panel.plot(early["x"], early["y"], "o", color="none", markersize=4, markeredgecolor=MUTED, zorder=2)
        drawing.explain(hollow, [_tip(row, metric.digits) for row in early.to_dict("records")])
        (dots,) = panel.plot(good["x"], good["y"], "o", color=_COLOUR, markersize=5, markeredgecolor=INK, zorder=3)
        drawing.explain(dots, [_tip(row, metric.digits) for row in good.to_dict("records")])
        (crosses,) = panel.plot(bad["x"], [worst] * len(bad), "x", color=_FAILED, markersize=6, zorder=4)
        drawing.explain(crosses, [_tip(row, metric.digits) for row in bad.to_dict("records")])
        panel.plot(best["x"], best["y"], "o", markersize=11, markerfacecolor="none", markeredgecolor=INK, zorder=5)
        panel.set_title(cell, fontsize=9, pad=4)
    if is_number:
        for panel in panels:
            panel.tick_params(axis="x", labelsize=7)
        if min(values) > 0 and max(values) > 5 * min(values):
            figure.draw_without_rendering()  # How many labels fit is known once the panels have their places.
            log_axis(panels[0], sorted(set(values)), value_text)
    else:
        for panel in panels:
            panel.set_xticks(list(places.values()), list(places), color=MUTED)
    return drawing


def _tip(row: dict[str, object], digits: int) -> str:
    score = row["problem"] or f"{row['y']:.{digits}f}"
    return f"{values_text(json.loads(str(row['values'])))}\n{score}\n{row['run_ids']}"
