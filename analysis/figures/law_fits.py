"""Figure: the fitted law of each model, with used and held-out points, the extrapolated part dashed.

A panel per model on log-log axes of error. Filled markers were fitted, hollow ones lie outside the window. The darker
band is the 90 % interval of the mean curve, the lighter one that of a single new run; both go two doublings beyond
the data at most.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from analysis.figures.canvas.drawing import Drawing
from analysis.figures.canvas.panels import legend_above, panel_font_size, panel_grid
from analysis.figures.canvas.style import MUTED, looks
from analysis.laws.law import FAR_DOUBLINGS, Law
from analysis.runs.load import Records
from scaling.readable import count_text

MIN_TICKS = 3


def law_fits(records: Records, laws: Mapping[str, Law], metric: str) -> Drawing:
    """One drawing with a panel per model, sharing both axes."""
    error_title = records.metric(metric).error_title
    figure, panels = panel_grid(len(laws), "distinct pre-training images", error_title)
    look_of = looks(records.models.values())
    tables = []
    scale = records.metric(metric).scale
    for panel, (model, law) in zip(panels, laws.items(), strict=True):
        grid = np.geomspace(law.x.min(), law.x.max() * 2**FAR_DOUBLINGS, 60)
        table = law.predict(grid)
        tables.append(table.assign(model=model))
        _draw_law(panel, law, table, look_of[model].colour, look_of[model].marker, scale)
        title = records.models[model].panel_title
        panel.set_title(title, fontsize=panel_font_size(title), pad=4)
    sizes = sorted({float(size) for law in laws.values() for size in law.x})
    _axes(panels[0], sizes)
    legend_above(figure, _legend())
    return Drawing(
        name=f"law_fits{records.suffix}",
        title="Fitted laws",
        caption=(
            f"{error_title} against distinct pre-training images, log-log, with the law of each model. Filled markers: "
            "runs used by the fit; hollow: runs outside its window. Solid: fitted range; dashed: extrapolation, at "
            "most two doublings. Dark band: 90 % interval of the mean curve; light band: 90 % interval of one new run."
        ),
        figure=figure,
        points=pd.concat(tables, ignore_index=True),
    )


def _draw_law(ax: Axes, law: Law, table: pd.DataFrame, colour: str, marker: str, scale: float) -> None:
    for kind, alpha in (("run", 0.10), ("mean", 0.22)):
        low, high = scale * table[f"{kind}_low"], scale * table[f"{kind}_high"]
        ax.fill_between(table["x"], low, high, color=colour, alpha=alpha, linewidth=0)
    inside = (table["x"] >= law.window[0] * 0.999) & (table["x"] <= law.window[1] * 1.001)
    beyond = table["x"] >= table["x"][inside].max()
    ax.plot(table["x"][inside], scale * table["error"][inside], color=colour, linewidth=1.4)
    ax.plot(table["x"][beyond], scale * table["error"][beyond], color=colour, linewidth=1.4, linestyle=(0, (4, 2)))
    used = law.choice.estimator.used(law.x)
    ax.plot(law.x[used], scale * law.y[used], linestyle="none", marker=marker, color=colour, markersize=5,
            markeredgecolor="white", markeredgewidth=0.4)  # fmt: skip
    ax.plot(law.x[~used], scale * law.y[~used], linestyle="none", marker=marker, markerfacecolor="none",
            markeredgecolor=colour, markersize=5, markeredgewidth=0.8)  # fmt: skip


def _legend() -> list[Artist]:
    dot: dict[str, Any] = {"linestyle": "none", "marker": "o", "markersize": 5, "color": MUTED}
    return [
        Line2D([], [], **dot, label="run used"),
        Line2D([], [], **dot, markerfacecolor="none", label="run outside the window"),
        Line2D([], [], color=MUTED, linewidth=1.4, linestyle=(0, (4, 2)), label="extrapolation"),
        Patch(color=MUTED, alpha=0.4, linewidth=0, label="90 %: mean curve"),
        Patch(color=MUTED, alpha=0.15, linewidth=0, label="90 %: one new run"),
    ]


def _axes(ax: Axes, sizes: list[float]) -> None:
    ax.set_xscale("log")
    ax.set_yscale("log")
    ticks = [size for i, size in enumerate(sizes) if i == 0 or size / sizes[0] > 2.5**i or len(sizes) <= 4]
    ax.xaxis.set_major_locator(FixedLocator([*ticks, sizes[-1] * 2**FAR_DOUBLINGS]))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: count_text(x)))
    ax.xaxis.set_minor_locator(NullLocator())
    low, high = ax.get_ylim()
    ax.yaxis.set_major_locator(FixedLocator(_ticks(low, high)))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
    ax.yaxis.set_minor_locator(NullLocator())


def _ticks(low: float, high: float) -> list[float]:
    """Round values on the axis: those of a log scale, or, where fewer than three are on it, evenly spaced ones."""
    ticks = [tick for tick in _round_values(low, high) if low <= tick <= high]
    if len(ticks) < MIN_TICKS:
        even = MaxNLocator(nbins=6, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
        ticks = [float(tick) for tick in even if low <= tick <= high]
    return ticks


def _round_values(low: float, high: float) -> list[float]:
    """1, 1.5, 2, 3, 4, 6, 8 times powers of ten over a short range, 1, 2, 5 over a long one."""
    steps = (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0) if high < 8 * low else (1.0, 2.0, 5.0)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [step * 10.0**power for power in powers for step in steps]
