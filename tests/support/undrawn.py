"""Reports whose figures stay empty, for tests that read words and tables alone."""

import io
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from analysis.figures.canvas.drawing import Drawing


def leave_undrawn(patch: pytest.MonkeyPatch) -> None:
    """Figures are made and saved, but neither laid out nor drawn, which is four fifths of a report."""

    def save(figure: Figure, to: io.StringIO | Path, **options: object) -> None:
        if isinstance(to, Path):
            to.touch()
        else:
            to.write('<svg xmlns="http://www.w3.org/2000/svg"/>')

    patch.setattr(Figure, "savefig", save)
    patch.setattr(Drawing, "_settle", lambda drawing: None)
    patch.setattr(Drawing, "explain", lambda drawing, markers, texts: None)
