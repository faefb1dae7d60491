"""Control characters in a user's table are refused; those in records of others do not spoil a figure."""

from pathlib import Path
from xml.etree import ElementTree

import pandas as pd
import pytest
from matplotlib.figure import Figure

from analysis.figures.canvas.drawing import Drawing
from analysis.report.options import read_titles
from analysis.runs.tables.csv_text import read_table
from scaling.errors import UserError


@pytest.mark.parametrize("text", ["model,num_images\na\x1b[2Jb,3\n", "mo\x07del,num_images\na,3\n"])
def test_a_table_with_control_characters_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "runs.csv").write_text(text)
    with pytest.raises(UserError, match="control character; remove it") as refusal:
        read_table(tmp_path / "runs.csv")
    assert str(refusal.value).isprintable()


def test_a_title_with_control_characters_is_refused(tmp_path: Path) -> None:
    (tmp_path / "titles.yaml").write_text('a: "two\\nlines"\n')
    assert read_titles(tmp_path / "titles.yaml") == {"a": "two\nlines"}
    (tmp_path / "titles.yaml").write_text('a: "\\e[2J"\n')
    with pytest.raises(UserError, match="no mapping of models to titles"):
        read_titles(tmp_path / "titles.yaml")


@pytest.mark.filterwarnings("ignore:Glyph")
def test_a_figure_with_any_text_is_xml() -> None:
    figure = Figure(figsize=(2, 2))
    figure.subplots().set_xlabel("device \x1b[2J\x00\x07 <b>")
    ElementTree.fromstring(Drawing("f", "f", "f", figure, pd.DataFrame({"x": [1]})).svg())
