"""The report of a study: `index.html` (one file, no network) and `report.md`.

Figures are inlined as SVG whose ink and paper follow the reader's light or dark setting; style and script are inlined
too. Both files hold the same text, so that neither can say more than the other.
"""

from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path

import pandas as pd
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from analysis.figures.canvas.drawing import Drawing, inline_svg
from analysis.figures.canvas.style import GRID, INK, MUTED, PAPER, shaded_family_colours
from analysis.report.tables import markdown, plain_markdown
from scaling.records.files import write_text_atomic


def _themed(family: str, shade: float) -> str:
    """A family's colour, mixed with the theme's paper (above 0) or ink by the share `shade`."""
    if not shade:
        return f"var(--{family})"
    return f"color-mix(in srgb, var(--{'paper' if shade > 0 else 'ink'}) {100 * abs(shade):g}%, var(--{family}))"


THEMED = {INK: "var(--ink)", MUTED: "var(--muted)", GRID: "var(--grid)", PAPER: "var(--paper)"} | {
    colour: _themed(family, shade) for colour, (family, shade) in shaded_family_colours().items()
}
"""Colours of the figures that follow the page's theme: brighter families on dark paper."""


MAX_PAIR_ROWS = 400
"""Rows of a table of pairs that are printed: they grow with the square of the number of models."""


@dataclass(frozen=True, slots=True)
class PageTable:
    """A table as it is printed."""

    caption: str
    table: pd.DataFrame
    tips: pd.DataFrame | None = None
    """Texts behind the cells, in the table's shape: where a number comes from."""

    def shortened(self, file: str) -> "PageTable":
        """The first MAX_PAIR_ROWS rows; the caption then says so, and that `file` holds all."""
        if len(self.table) <= MAX_PAIR_ROWS:
            return self
        caption = f"{self.caption}. The first {MAX_PAIR_ROWS} of {len(self.table)} rows; all are in {file}"
        tips = None if self.tips is None else self.tips.iloc[:MAX_PAIR_ROWS]
        return PageTable(caption, self.table.iloc[:MAX_PAIR_ROWS], tips)

    def headings(self) -> list[tuple[str, bool]]:
        """Column names, and whether the column reads as text: no value starts with a number."""
        return [
            (str(name), not self.table.iloc[:, column].astype(str).str.match(r"[-+<>]?\s?\d").any())
            for column, name in enumerate(self.table.columns)
        ]

    def rows(self) -> list[list[tuple[object, str]]]:
        """Cells with the text behind them."""
        values = self.table.to_numpy().tolist()
        if self.tips is None:
            return [[(value, "") for value in row] for row in values]
        tips = self.tips.astype(str).to_numpy().tolist()
        return [list(zip(row, texts, strict=True)) for row, texts in zip(values, tips, strict=True)]


@dataclass(frozen=True, slots=True)
class Section:
    """A heading with text, tables and figures under it."""

    title: str
    text: str = ""
    drawings: tuple[Drawing, ...] = ()
    tables: tuple[PageTable, ...] = ()

    def under(self, heading: str) -> "Section":
        """The same with `heading` before its title, unless that is empty."""
        return replace(self, title=f"{heading}: {self.title}") if heading else self


def write_page(title: str, subtitle: str, sections: list[Section], folder: Path) -> list[Path]:
    """Write index.html and report.md into `folder`."""
    html = folder / "index.html"
    write_text_atomic(html, _html(title, subtitle, sections))
    text = folder / "report.md"
    write_text_atomic(text, _markdown(title, subtitle, sections))
    return [html, text]


def _html(title: str, subtitle: str, sections: list[Section]) -> str:
    source = files("analysis.report")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.globals["inline_svg"] = lambda drawing: Markup(inline_svg(drawing, THEMED))
    template = environment.from_string((source / "page.html").read_text(encoding="utf-8"))
    return template.render(
        title=title,
        subtitle=subtitle,
        sections=sections,
        style=Markup((source / "page.css").read_text(encoding="utf-8")),
        script=Markup((source / "page.js").read_text(encoding="utf-8")),
    )


def _markdown(title: str, subtitle: str, sections: list[Section]) -> str:
    parts = [f"# {plain_markdown(title)}", plain_markdown(subtitle)]
    for section in sections:
        parts.append(f"## {plain_markdown(section.title)}")
        if section.text:
            parts += map(plain_markdown, section.text.split("\n\n"))
        for entry in section.tables:
            parts += [plain_markdown(entry.caption), markdown(entry.table)]
        for drawing in section.drawings:
            parts += [
                f"![{drawing.title}]({drawing.name}.png)",
                f"*{plain_markdown(drawing.caption)}* Data: {drawing.name}.csv",
            ]
    return "\n\n".join(parts) + "\n"
