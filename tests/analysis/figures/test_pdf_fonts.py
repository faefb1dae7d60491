"""Fonts inside PDF figures: the outlines of the font's own glyphs, without tables for laying text out."""

import io
import re
import zlib
from pathlib import Path

import pandas as pd
from fontTools import subset
from fontTools.pens.recordingPen import RecordingPen
from fontTools.ttLib import TTFont
from matplotlib.font_manager import findfont

from analysis.figures.canvas.drawing import Drawing
from analysis.figures.canvas.pdf_fonts import LAYOUT_TABLES
from analysis.figures.canvas.style import FONT, drawing_style, new_figure

TEXT = "AVfi Tfl"
"""Pairs that are kerned and letters that have ligatures."""


def test_embedded_fonts_hold_the_outlines_of_the_text_and_no_layout_tables(tmp_path: Path) -> None:
    usual = subset.Options
    with drawing_style():
        figure = new_figure()
        figure.subplots().set_xlabel(TEXT)
        Drawing("words", "words", "words", figure, pd.DataFrame({"x": [1]})).save(tmp_path)
    assert subset.Options is usual
    embedded = [font for font in map(font_in, streams(tmp_path / "words.pdf")) if font is not None]
    assert embedded
    whole = TTFont(findfont(FONT))
    drawn = {outline(font, name) for font in embedded for name in font.getGlyphOrder()}
    for letter in set(TEXT) - set("fil "):  # a font may have one glyph for f and i
        assert outline(whole, whole.getBestCmap()[ord(letter)]) in drawn, letter
    assert not set().union(*(font.keys() for font in embedded)) & set(LAYOUT_TABLES)


def streams(pdf: Path) -> list[bytes]:
    found = re.findall(rb"stream\r?\n(.*?)\r?\nendstream", pdf.read_bytes(), re.DOTALL)
    return [zlib.decompress(content) for content in found if content[:1] == b"x"]


def font_in(stream: bytes) -> TTFont | None:
    return TTFont(io.BytesIO(stream)) if stream[:4] == b"\x00\x01\x00\x00" else None


def outline(font: TTFont, glyph: str) -> str:
    pen = RecordingPen()
    glyphs = font.getGlyphSet()
    glyphs[glyph].draw(pen)
    return repr(pen.value)
