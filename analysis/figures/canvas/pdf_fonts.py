"""Fonts of PDF files, cut down to the glyphs that a figure shows, in a fraction of the time.

Matplotlib places every glyph itself, so the tables by which a program would lay text out again (kerning, ligatures,
scripts) say nothing in a PDF. Those of DejaVu are large: reading them takes most of the time of saving a figure.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fontTools import subset

LAYOUT_TABLES = ("GDEF", "GPOS", "GSUB", "kern")
"""OpenType: glyph definitions, positions and substitutions, and the older kerning."""


class _WithoutLayout(subset.Options):
    """Options of a subset that leave LAYOUT_TABLES out."""

    drop_tables: list[str]

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.drop_tables = [*self.drop_tables, *LAYOUT_TABLES]


@contextmanager
def fonts_without_layout() -> Iterator[None]:
    """Matplotlib, which has no setting for it, embeds fonts without LAYOUT_TABLES inside."""
    usual = subset.Options
    subset.Options = _WithoutLayout
    try:
        yield
    finally:
        subset.Options = usual
