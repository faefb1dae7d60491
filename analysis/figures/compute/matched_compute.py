"""Figures: models or families against training compute, and where they are compared.

Small points and lines are measured: one line per seed. Large marks are where pairs are compared: filled at a budget
that both were trained at, hollow where a value is interpolated between two costs. Outside the costs that both measured
nothing is compared.
"""

from collections.abc import Mapping

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedFormatter, FixedLocator

from analysis.comparison.matched_cost import Curves
from analysis.figures.canvas.axes import EndLabel, end_labels, headline, log_axis, value_axis
from analysis.figures.canvas.drawing import Drawing
from analysis.figures.canvas.panels import legend_above, panel_grid
from analysis.figures.canvas.style import MUTED, PAPER, ModelStyle, height_for, looks, new_figure
from analysis.figures.matched import interval_tip
from analysis.runs.conditions import budget_names
from analysis.runs.load import Records
from analysis.runs.metrics import Metric
from analysis.runs.naming import FAMILY_TITLES, parse_model_name
from scaling.readable import cost_text, count_text, power_text

_MAX_ROWS = 120
"""Comparisons drawn into one figure; more would only cover each other."""
_MAX_TICKS = 5
"""Budgets named on the axis of a panel."""


def matched_compute(
    records: Records, curves: Curves, table: pd.DataFrame, metric: str, *, name: str, facts: str
) -> Drawing | None:
    """The curves of `analysis.comparison.matched_cost` and the pairs of `table` (its COLUMNS); None without pairs."""
    if table.empty:
        return None
    compared = [entry for entry in curves if entry in set(table["model_a"]) | set(table["model_b"])]
    titles, look_of = _names_and_looks(records, compared)
    measure = records.metric(metric)
    drawn, note = _closest(table)
    figure = new_figure(height=height_for(len(compared)))
    ax = figure.add_subplot()
    drawing = Drawing(
        name=f"{name}{records.suffix}",
        title="Matched compute",
        caption=(
            f"{measure.title} against training compute ({facts}). Lines and small points: measured, one line "
            "per seed. Large hollow marks: means over seeds where two are compared, at the ends and the middle of "
            "their common range (thin vertical lines); between measured points they are interpolated in the log of "
            f"the compute, and outside nothing is compared.{note}"
        ),
        figure=figure,
        points=table,
    )
    log_axis(ax, [cost for entry in compared for curve in curves[entry].values() for cost in curve[0]], power_text)
    ends = []
    for entry in compared:
        _draw_seeds(ax, curves, entry, look_of[entry], measure)
        last = [(costs[-1], values[-1]) for costs, values in curves[entry].values()]
        height = measure.scale * sum(value for _, value in last) / len(last)
        ends.append(EndLabel(titles[entry], float(last[0][0]), float(height), look_of[entry].ink))
    _draw_pairs(drawing, ax, drawn.assign(kind="interpolated"), titles, look_of, measure)
    ax.set_xlabel("training compute, FLOPs")
    value_axis(ax, measure.title)
    headline(ax, drawing.title, f"{facts}; hollow: compared, inside the common range only")
    end_labels(ax, ends)
    return drawing


def compute_panels(
    records: Records, curves: Mapping[float, Curves], table: pd.DataFrame, metric: str
) -> Drawing | None:
    """A panel per subset size: the curves of `equal_compute.curves_by_size`, and the pairs of its EQUAL_COLUMNS.

    None where nothing is compared at two costs or more: the map of leaders says all there is.
    """
    if table["budget"].nunique() < 2:
        return None
    sizes = [size for size in curves if size in set(table["num_images"])]
    compared = sorted(set(table["model_a"]) | set(table["model_b"]), key=lambda model: records.models[model])
    titles, look_of = _names_and_looks(records, compared)
    measure = records.metric(metric)
    drawn, note = _closest(table)
    figure, panels = panel_grid(len(sizes), "training compute, FLOPs", measure.title, num_entries=len(compared))
    drawing = Drawing(
        name=f"matched_compute_budgets{records.suffix}",
        title="Accuracy and compute at each subset size",
        caption=(
            f"{measure.title} against training compute, a panel for each number of distinct pre-training images. "
            "Lines and small points: measured, one line per seed. Large marks: means over seeds where two models are "
            "compared, filled at a budget that both were trained at, hollow where the values are interpolated in the "
            f"log of the compute between two costs; outside the measured costs nothing is compared.{note}"
        ),
        figure=figure,
        points=table,
    )
    costs = [float(cost) for size in sizes for entry in compared for cost, _ in _points(curves[size], entry)]
    for panel, size in zip(panels, sizes, strict=True):
        for entry in compared:
            _draw_seeds(panel, curves[size], entry, look_of[entry], measure)
        rows = drawn[drawn["num_images"] == size].rename(columns={"budget": "at"})
        _draw_pairs(drawing, panel, rows, titles, look_of, measure)
        panel.set_title(f"{count_text(size)} images", fontsize=9, pad=4)
    log_axis(panels[0], costs, power_text)
    panels[0].set_xlim(min(costs) / 1.25, max(costs) * 1.25)
    measured = sorted(table.loc[table["kind"] == "measured", "budget"].unique())
    if 0 < len(measured) <= _MAX_TICKS:
        panels[0].xaxis.set_major_locator(FixedLocator(measured))
        panels[0].xaxis.set_major_formatter(FixedFormatter(budget_names(measured)))
    handles = [Line2D([], [], **look_of[entry].line(), label=titles[entry]) for entry in compared]
    legend_above(figure, handles)
    return drawing


def _closest(table: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """The _MAX_ROWS comparisons with the smallest differences, in the order of `table`, and what the caption says."""
    if len(table) <= _MAX_ROWS:
        return table, ""
    kept = table["difference"].abs().nsmallest(_MAX_ROWS).index.sort_values()
    return table.loc[kept], f" Of {len(table)} comparisons, the {_MAX_ROWS} closest are marked."


def _names_and_looks(records: Records, compared: list[str]) -> tuple[dict[str, str], dict[str, ModelStyle]]:
    """Titles and looks of models and of whole families."""
    families = {entry: parse_model_name(entry, entry) for entry in compared if entry not in records.models}
    names = records.models | families
    look_of = looks(families.values()) | looks(records.models.values())
    return {entry: FAMILY_TITLES.get(entry, names[entry].figure_title) for entry in compared}, look_of


def _points(curves: Curves, entry: str) -> list[tuple[float, float]]:
    return [
        (float(cost), float(value))
        for costs, values in curves.get(entry, {}).values()
        for cost, value in zip(costs, values, strict=True)
    ]


def _draw_seeds(ax: Axes, curves: Curves, entry: str, look: ModelStyle, measure: Metric) -> None:
    for costs, values in curves.get(entry, {}).values():
        ax.plot(costs, measure.scale * values, **look.line() | {"linewidth": 1.0, "alpha": 0.6, "markersize": 3.5})


def _draw_pairs(
    drawing: Drawing,
    ax: Axes,
    table: pd.DataFrame,
    titles: dict[str, str],
    look_of: dict[str, ModelStyle],
    measure: Metric,
) -> None:
    """The means that are compared, with the difference behind each mark."""
    scale = measure.scale
    for at in sorted(set(table["at"])):
        ax.axvline(at, color=MUTED, linewidth=0.6, alpha=0.5, zorder=1)
    for row in table.itertuples():
        told = (
            f"{titles[row.model_a]} - {titles[row.model_b]} at {cost_text('flops', row.at)}\n"
            f"{scale * row.difference:+.2f} {interval_tip(row, scale)}, {row.pairs} paired seeds"
        )
        for entry, mean in ((row.model_a, row.mean_a), (row.model_b, row.mean_b)):
            look = look_of[entry].dots(1.2) | {"zorder": 4}
            if row.kind == "interpolated":
                look |= {"markerfacecolor": PAPER, "markeredgecolor": look_of[entry].colour, "markeredgewidth": 1.4}
            (mark,) = ax.plot([row.at], [scale * mean], **look)
            drawing.explain(mark, [f"{titles[entry]} {scale * mean:.2f}\n{told}"])
