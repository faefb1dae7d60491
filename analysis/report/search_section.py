"""The section on searches for hyper-parameters: for each cell what was searched, what came out, and what to doubt."""

import pandas as pd

from analysis.figures.searches import search_figures
from analysis.report.page import PageTable, Section
from analysis.runs.searches import cell_table

_TEXT = (
    "Trials have seeds of their own and are no points of other figures. A best value at an edge, beyond which nothing "
    "was tried, may not be the best there is; a larger tune.extend in the sweep searches on."
)


def search_sections(searches: pd.DataFrame) -> list[Section]:
    """None without a search."""
    if searches.empty:
        return []
    table = PageTable("What each search chose; every trial is in trials.csv.", cell_table(searches))
    return [Section("Search for hyper-parameters", _TEXT, tuple(search_figures(searches)), (table,))]
