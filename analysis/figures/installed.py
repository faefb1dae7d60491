"""Figures that installed packages add to the report, by entry points of the group `analysis.figures`.

Each is a function of the records, the log rows and the headline metric; it returns a `Drawing`, or None when these
records hold nothing to draw.
"""

import types

import pandas as pd

from analysis.figures.drawing import Drawing
from analysis.runs.load import Records
from scaling.errors import UserError
from scaling.installed import load_installed

ENTRY_POINT_GROUP = "analysis.figures"


def installed_figures(records: Records, rows: pd.DataFrame, metric: str) -> list[Drawing]:
    """The drawings of all installed figures, by name; UserError for one that returns something else."""
    drawings = []
    for name, draw in load_installed(ENTRY_POINT_GROUP, types.FunctionType).items():
        drawing = draw(records, rows, metric)
        if drawing is not None and not isinstance(drawing, Drawing):
            raise UserError(
                f"figure {name!r} of group {ENTRY_POINT_GROUP!r} returned {type(drawing).__name__}; return an "
                "analysis.figures.drawing.Drawing or None"
            )
        drawings += [drawing] if drawing is not None else []
    return drawings
