"""Figure: models or families at matched training compute, interpolated inside what both measured.

Small points and lines are measured: one line per seed. Large hollow marks are where pairs are compared: the ends and
the middle of a common range, marked by thin vertical lines. Outside that range nothing is compared.
"""

import pandas as pd

from analysis.comparison.matched_cost import Curves
from analysis.figures.axes import EndLabel, end_labels, headline, log_axis, value_axis
from analysis.figures.drawing import Drawing
from analysis.figures.style import MUTED, PAPER, looks, new_figure
from analysis.runs.load import Records
from analysis.runs.metrics import display_scale, metric_title
from analysis.runs.naming import FAMILY_TITLES, parse_model_name
from analysis.runs.number_text import cost_text, power_text


def matched_compute(
    records: Records, curves: Curves, table: pd.DataFrame, metric: str, *, name: str, facts: str
) -> Drawing | None:
    """The curves of `analysis.comparison.matched_cost` and the pairs of `table` (its COLUMNS); None without pairs."""
    if table.empty:
        return None
    compared = [entry for entry in curves if entry in set(table["model_a"]) | set(table["model_b"])]
    names = records.models | {entry: parse_model_name(entry, entry) for entry in compared if entry in FAMILY_TITLES}
    names |= {entry: parse_model_name(entry, entry) for entry in compared if entry not in names}
    titles = {entry: FAMILY_TITLES.get(entry, names[entry].title) for entry in compared}
    look_of = looks(names.values())
    scale = display_scale(metric)
    figure = new_figure()
    ax = figure.add_subplot()
    drawing = Drawing(
        name=f"{name}{records.suffix}",
        title="Matched compute",
        caption=(
            f"{metric_title(metric)} against training compute ({facts}). Lines and small points: measured, one line "
            "per seed. Large hollow marks: means over seeds where two are compared, at the ends and the middle of "
            "their common range (thin vertical lines); between measured points they are interpolated in the log of "
            "the compute, and outside nothing is compared."
        ),
        figure=figure,
        points=table,
    )
    log_axis(ax, [cost for entry in compared for curve in curves[entry].values() for cost in curve[0]], power_text)
    for at in sorted(set(table["at"])):
        ax.axvline(at, color=MUTED, linewidth=0.6, alpha=0.5, zorder=1)
    ends = []
    for entry in compared:
        look = look_of[entry]
        for costs, values in curves[entry].values():
            ax.plot(costs, scale * values, **look.line() | {"linewidth": 1.0, "alpha": 0.6, "markersize": 3.5})
        last = [(costs[-1], values[-1]) for costs, values in curves[entry].values()]
        height = scale * sum(value for _, value in last) / len(last)
        ends.append(EndLabel(titles[entry], float(last[0][0]), float(height), look.colour))
    for row in table.itertuples():
        told = (
            f"{titles[row.model_a]} - {titles[row.model_b]} at {cost_text('flops', row.at)}\n"
            f"{scale * row.difference:+.2f} [{scale * row.low:+.2f}, {scale * row.high:+.2f}], {row.pairs} paired seeds"
        )
        for entry, mean in ((row.model_a, row.mean_a), (row.model_b, row.mean_b)):
            hollow = {"markerfacecolor": PAPER, "markeredgecolor": look_of[entry].colour, "markeredgewidth": 1.4}
            (mark,) = ax.plot([row.at], [scale * mean], **look_of[entry].dots(1.2) | hollow | {"zorder": 4})
            drawing.explain(mark, [f"{titles[entry]} {scale * mean:.2f}\n{told}"])
    ax.set_xlabel("training compute, FLOPs")
    value_axis(ax, metric_title(metric))
    headline(ax, drawing.title, f"{facts}; hollow: compared, inside the common range only")
    end_labels(ax, ends)
    return drawing
