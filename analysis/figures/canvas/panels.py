"""A grid of small panels, one per model, that share their axes."""

import math
from collections.abc import Sequence

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures.canvas.style import new_figure

MAX_COLUMNS = 4
LEGEND_COLUMNS = 4

_LETTER_INCHES = 0.072
"""Width of a letter of a legend."""
_HANDLE_INCHES = 0.55
_ROW_INCHES = 0.19

TITLE_SIZE, TITLE_LETTERS = 9.0, 22
"""Points of a panel's title, and bold letters of that size that a panel has room for."""


def panel_font_size(title: str) -> float:
    """Points of a panel's title, smaller where its longest line would reach over the next panel."""
    return TITLE_SIZE * min(1.0, TITLE_LETTERS / max(map(len, title.split("\n"))))


def panel_grid(
    num_panels: int, x_label: str, y_label: str, *, share_y: bool = True, num_entries: int = 0
) -> tuple[Figure, list[Axes]]:
    """A figure and its panels in reading order; the lowest panel of each column carries the x tick labels.

    `num_entries` are those of a legend above in LEGEND_COLUMNS columns, for which the figure grows.
    """
    num_columns = (
        num_panels if num_panels <= MAX_COLUMNS else math.ceil(num_panels / math.ceil(num_panels / MAX_COLUMNS))
    )
    num_rows = math.ceil(num_panels / num_columns)
    legend = 0.18 * max(0, math.ceil(num_entries / LEGEND_COLUMNS) - 3)
    figure = new_figure(max(5.0, 0.6 + 2.3 * num_columns), 0.8 + 2.15 * num_rows + legend)
    grid = figure.subplots(num_rows, num_columns, sharex=True, sharey=share_y, squeeze=False)
    panels = list(grid.flat)
    for spare in panels[num_panels:]:
        spare.set_axis_off()
    for position in range(num_panels):
        if position + num_columns >= num_panels:
            panels[position].tick_params(labelbottom=True)
    figure.supxlabel(x_label, fontsize=9)
    if y_label:
        figure.supylabel(y_label, fontsize=9)
    return figure, panels[:num_panels]


def legend_above(figure: Figure, handles: Sequence[Artist]) -> None:
    """A legend over the panels, in as many columns as fit its width, which makes the figure higher by its rows."""
    longest = max(len(str(handle.get_label())) for handle in handles)
    num_columns = max(1, min(len(handles), int(figure.get_figwidth() / (_LETTER_INCHES * longest + _HANDLE_INCHES))))
    num_rows = -(-len(handles) // num_columns)
    figure.set_figheight(figure.get_figheight() + _ROW_INCHES * (num_rows - 1))
    figure.legend(handles=list(handles), loc="outside upper center", ncols=num_columns, frameon=False, fontsize=8.5)
