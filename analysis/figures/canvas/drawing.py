"""A figure together with what it shows: caption, the table behind it, and the text behind each point.

Saving writes NAME.png, NAME.svg, NAME.pdf and NAME.csv. The files carry no date and no random ids: the same records
give the same bytes.
"""

import io
import re
import types
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

import pandas as pd
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.transforms import Bbox

from analysis.figures.canvas.pdf_fonts import fonts_without_layout
from analysis.runs.load import Records
from analysis.runs.tables.csv_text import save_csv
from scaling.errors import UserError
from scaling.installed import load_installed

_IMAGES = (".png", ".svg", ".pdf")

_MARGIN_INCHES = 0.05
"""Beside what sticks out of a figure."""
PNG_DPI = 200
TITLE_GID = "title"
"""Marks what `Drawing.hide_titles` hides."""
_SVG = "http://www.w3.org/2000/svg"
_XLINK = "http://www.w3.org/1999/xlink"

_NO_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
"""Characters that XML has no way to write; records of others may hold them."""


@dataclass(frozen=True, slots=True)
class Drawing:
    """One finished figure."""

    name: str
    """File name without ending."""
    title: str
    caption: str
    """What is drawn, what the bars mean, how many runs."""
    figure: Figure
    points: pd.DataFrame
    """The values drawn, in stored units."""
    _rendered: list[str] = field(default_factory=list)
    _settled: list[bool] = field(default_factory=list)
    """Not empty once the figure is laid out."""
    _grown: list[Bbox] = field(default_factory=list)
    """The figure and what sticks out of it, in inches; empty where nothing does."""
    tips: dict[str, list[str]] = field(default_factory=dict)
    """By the id of a marker group: one text per marker, in drawing order."""

    def explain(self, markers: Line2D, texts: Sequence[str]) -> None:
        """Attach `texts` to the markers of a line, to be shown where a reader points."""
        group = f"{self.name}-points-{len(self.tips)}"
        markers.set_gid(group)
        self.tips[group] = list(texts)

    def svg(self) -> str:
        """The figure as SVG text, without XML header; drawn once."""
        if self._rendered:
            return self._rendered[0]
        self._settle()
        stream = io.StringIO()
        self.figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None}, bbox_inches=self._crop)
        text = _NO_XML.sub("\ufffd", stream.getvalue())
        self._rendered.append(text[text.index("<svg") :])
        return self._rendered[0]

    @property
    def _crop(self) -> str | Bbox | None:
        """What is saved, in inches: room of titles that are not shown is cut away, and a name that no layout has room
        for makes the image wider instead of being cut off."""
        if not all(title.get_visible() for title in self._titles()):
            return "tight"
        return self._grown[0] if self._grown else None

    def _titles(self) -> list[Artist]:
        return self.figure.findobj(lambda artist: artist.get_gid() == TITLE_GID)

    def _settle(self) -> None:
        """Lay the figure out, once: without a layout engine, each file format draws it once instead of twice."""
        if self._settled:
            return
        self._settled.append(True)
        engine = self.figure.get_layout_engine()
        if engine is not None:
            # Letters sit on whole pixels: at another resolution a long label is up to 5 % wider than was laid out for.
            self.figure.set_dpi(PNG_DPI)
            engine.execute(self.figure)
            self.figure.set_layout_engine(None)
        drawn, whole = self.figure.get_tightbbox(), self.figure.bbox_inches
        if drawn.x0 < whole.x0 or drawn.y0 < whole.y0 or drawn.x1 > whole.x1 or drawn.y1 > whole.y1:
            self._grown[:] = [Bbox.union([whole, drawn.padded(_MARGIN_INCHES)])]

    def hide_titles(self) -> None:
        """Leave the titles to the caption of a paper; before the figure is saved."""
        for title in self._titles():
            title.set_visible(False)

    def save(self, folder: Path) -> list[Path]:
        """Write the four files and return their paths, the PNG first."""
        return [*self.save_images(folder), self.save_points(folder)]

    def save_images(self, folder: Path) -> list[Path]:
        """Write the three images and return their paths, the PNG first."""
        self._settle()
        paths = [folder / f"{self.name}{ending}" for ending in _IMAGES]
        self.figure.savefig(paths[0], dpi=PNG_DPI, metadata={"Software": None}, bbox_inches=self._crop)
        paths[1].write_text(self.svg(), encoding="utf-8")
        nothing = {"CreationDate": None, "Creator": None, "Producer": None}
        with fonts_without_layout():
            self.figure.savefig(paths[2], metadata=nothing, bbox_inches=self._crop)
        return paths

    def take_images(self, folder: Path) -> list[Path]:
        """Take the images that a copy of this process saved as this drawing's own; returns their paths."""
        paths = [folder / f"{self.name}{ending}" for ending in _IMAGES]
        self._rendered[:] = [paths[1].read_text(encoding="utf-8")]
        return paths

    def save_points(self, folder: Path) -> Path:
        """Write the values drawn as CSV and return its path."""
        return save_csv(self.points, folder / f"{self.name}.csv")


def present(*drawings: Drawing | None) -> tuple[Drawing, ...]:
    """Those that were drawn."""
    return tuple(drawing for drawing in drawings if drawing is not None)


def inline_svg(drawing: Drawing, themed: dict[str, str]) -> str:
    """SVG to put inside a page: ids unique to the figure, each marker with its text in `data-tip`, and the colours
    of `themed` replaced by what the page's theme says (a CSS variable, say)."""
    ElementTree.register_namespace("", _SVG)
    ElementTree.register_namespace("xlink", _XLINK)
    root = ElementTree.fromstring(drawing.svg())
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag == f"{{{_SVG}}}metadata":
                parent.remove(child)
    groups = {element.get("id"): element for element in root.iter(f"{{{_SVG}}}g")}
    for group, texts in drawing.tips.items():
        markers = groups[group].findall(f".//{{{_SVG}}}use")
        assert len(markers) == len(texts), f"{group}: {len(markers)} markers, {len(texts)} texts"
        for marker, text in zip(markers, texts, strict=True):
            marker.set("data-tip", text)
            marker.set("tabindex", "0")
    for name in ("width", "height"):
        root.attrib.pop(name, None)
    root.set("role", "img")
    root.set("aria-label", drawing.title)
    text = ElementTree.tostring(root, encoding="unicode")
    text = re.sub(r'\b(id="|url\(#|href="#)(?!' + re.escape(drawing.name) + r")", rf"\1{drawing.name}-", text)
    for colour, replacement in themed.items():
        text = text.replace(colour, replacement)
    return text


ENTRY_POINT_GROUP = "analysis.figures"


def installed_figures(records: Records, rows: pd.DataFrame, metric: str) -> list[Drawing]:
    """The drawings of all installed figures, by name; UserError for one that returns something else."""
    drawings = []
    for name, draw in load_installed(ENTRY_POINT_GROUP, types.FunctionType).items():
        drawing = draw(records, rows, metric)
        if drawing is not None and not isinstance(drawing, Drawing):
            raise UserError(
                f"figure {name!r} of group {ENTRY_POINT_GROUP!r} returned {type(drawing).__name__}; return an "
                "analysis.figures.canvas.drawing.Drawing or None"
            )
        drawings += [drawing] if drawing is not None else []
    return drawings
