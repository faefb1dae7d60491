"""A grid of small panels, one per model, that share their axes."""

import math

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures.canvas.style import new_figure

MAX_COLUMNS = 4
LEGEND_COLUMNS = 4


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
