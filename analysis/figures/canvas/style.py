"""One look for every figure: a colour per family, a marker per patch, line width and marker size per scale.

The colours are those of Okabe and Ito, which stay apart for colour-blind readers, the blue darkened so that in grey
print ViT stays apart from Mixer; markers and the labels at the line ends do the rest. A family keeps its colour in
every figure and every study. Solid lines join measured points; dashes are kept for what was not measured.
"""

import logging
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import cycle
from typing import Any

import matplotlib as mpl
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, fontManager, get_font

from analysis.runs.naming import ModelName

INK = "#1b1f24"
MUTED = "#6b7178"
GRID = "#e3e5e8"
PAPER = "#ffffff"

FAMILY_COLOURS = {"mixer": "#d55e00", "vit": "#00508f", "bit": "#009e73"}
_FURTHER_COLOURS = ("#cc79a7", "#56b4e9", "#e69f00", "#8c6d31", "#7f7f7f")

_LIGHTEST, _DARKEST = 0.45, -0.4
"""How far models that would look alike are mixed with paper or ink at most."""
SHADE_STEP = 0.05

_PATCH_MARKERS = {32: "o", 16: "^", 14: "D", 8: "v", 4: "s", 2: "P"}
_NO_PATCH_MARKERS = {"mixer": "o", "vit": "^"}
"""Where a name tells no patch; squares for convolutional networks and other families."""
_NO_PATCH_MARKER = "s"
_OTHER_PATCH_MARKER = "h"
_FURTHER_MARKERS = ("X", "<", "p", ">", "d")
"""Of families that share a colour with one before."""
_MARKER_AREA = {"o": 1.0, "^": 1.08, "D": 0.82, "v": 1.08, "s": 0.88, "P": 1.1, "h": 1.05, "X": 1.1,
                "<": 1.08, ">": 1.08, "p": 1.05, "d": 1.0}  # fmt: skip
"""Side length that makes a marker look as large as a circle."""


@dataclass(frozen=True, slots=True)
class ModelStyle:
    """How one model is drawn, everywhere."""

    colour: str
    marker: str
    marker_size: float
    """Points."""
    line_width: float
    """Points."""
    ink: str
    """Colour of its name: never so light that it cannot be read."""

    def dots(self, size: float = 1.0) -> dict[str, Any]:
        """Arguments of `Axes.plot` for markers alone, `size` times as large as usual."""
        return {
            "color": self.colour,
            "marker": self.marker,
            "markersize": size * self.marker_size,
            "markeredgecolor": PAPER,
            "markeredgewidth": 0.7,
            "linestyle": "none",
            "zorder": 3,
        }

    def line(self) -> dict[str, Any]:
        """Arguments of `Axes.plot` for markers joined by a line."""
        return self.dots() | {"linestyle": "-", "linewidth": self.line_width}

    def bar(self) -> dict[str, Any]:
        """Arguments for the bar from the smallest to the largest run."""
        return {"color": self.colour, "linewidth": 1.0, "alpha": 0.7}


def looks(models: Iterable[ModelName]) -> dict[str, ModelStyle]:
    """The look of each model by name.

    The papers' families have fixed colours; others take the remaining ones in alphabetical order, and further markers
    when those are used up. Models that would look alike, of one family and patch, differ in shade, the smaller lighter.
    """
    named = sorted(models)
    further = sorted({model.family for model in named} - FAMILY_COLOURS.keys())
    colours = FAMILY_COLOURS | dict(zip(further, cycle(_FURTHER_COLOURS), strict=False))
    rounds = {family: place // len(_FURTHER_COLOURS) for place, family in enumerate(further)}
    plain = {model.name: _look(model, colours[model.family], rounds.get(model.family, 0)) for model in named}
    alike: dict[tuple[str, str], list[str]] = {}
    drawn_as_series = {name.partition(" [")[0] for name in plain if " [" in name}
    for name, look in plain.items():
        if name not in drawn_as_series:
            alike.setdefault((look.colour, look.marker), []).append(name)
    shade_of = dict.fromkeys(drawn_as_series, 0.0) | {
        name: shade for names in alike.values() for name, shade in zip(names, _shades(len(names)), strict=True)
    }
    return {
        name: replace(
            look,
            colour=_shaded(look.colour, shade_of[name]),
            ink=_shaded(look.colour, min(0.0, shade_of[name])),
        )
        for name, look in plain.items()
    }


def _shades(count: int) -> list[float]:
    """From light to dark; one alone, and the larger of two, keep the colour as it is."""
    if count < 3:
        return [_LIGHTEST, 0.0][2 - count :]
    spread = (_LIGHTEST + (_DARKEST - _LIGHTEST) * place / (count - 1) for place in range(count))
    return [round(round(shade / SHADE_STEP) * SHADE_STEP, 2) for shade in spread]


def shaded_family_colours() -> dict[str, tuple[str, float]]:
    """Every colour that models of the papers' families may have, with its family and shade."""
    steps = range(round(_DARKEST / SHADE_STEP), round(_LIGHTEST / SHADE_STEP) + 1)
    shades = [round(step * SHADE_STEP, 2) for step in steps]
    return {_shaded(colour, shade): (name, shade) for name, colour in FAMILY_COLOURS.items() for shade in shades}


def _shaded(colour: str, shade: float) -> str:
    """The colour mixed with paper (above 0) or ink (below 0) by that share."""
    if not shade:
        return colour
    own, other = to_rgb(colour), to_rgb(PAPER if shade > 0 else INK)
    red, green, blue = ((1 - abs(shade)) * one + abs(shade) * two for one, two in zip(own, other, strict=True))
    return to_hex((red, green, blue))


def _look(model: ModelName, colour: str, colour_round: int = 0) -> ModelStyle:
    if colour_round:
        marker = _FURTHER_MARKERS[(colour_round - 1) % len(_FURTHER_MARKERS)]
    elif model.patch is None:
        marker = _NO_PATCH_MARKERS.get(model.family, _NO_PATCH_MARKER)
    else:
        marker = _PATCH_MARKERS.get(model.patch, _OTHER_PATCH_MARKER)
    return ModelStyle(
        colour=colour,
        marker=marker,
        marker_size=(4.2 + 0.75 * model.scale) * _MARKER_AREA[marker],
        line_width=0.8 + 0.4 * model.scale,
        ink=colour,
    )


PAGE_INCHES, COLUMN_INCHES = 7.0, 4.8
"""Widths of a figure for two columns or a page, and for one column (set at 3.3 inches, its 9 pt become 6)."""


HEIGHT_INCHES = 4.4
FONT = "DejaVu Sans"
"""Comes with Matplotlib, so that figures are the same on every machine, but for letters that it lacks."""


@contextmanager
def drawing_style(width: float = PAGE_INCHES, titles: Iterable[str] = ()) -> Iterator[None]:
    """Figures made inside share fonts, axes and a fixed seed for SVG ids; nothing outside changes, and nothing of a
    user's matplotlibrc reaches in. `width` is that of a usual figure in inches; letters of `titles` that FONT lacks are
    taken from installed fonts."""
    settings: Any = {
        "lines.solid_capstyle": "round",
        "patch.edgecolor": PAPER,
        "patch.force_edgecolor": True,
        "font.family": [FONT, *further_fonts(titles)],
        "font.size": 9.0,
        "axes.titlesize": 10.0,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.titlepad": 10.0,
        "axes.titley": 1.0,  # else every drawing looks for ticks above the axes
        "axes.labelsize": 9.0,
        "axes.labelcolor": INK,
        "axes.edgecolor": MUTED,
        "axes.linewidth": 0.8,
        "axes.grid": True,
        "axes.axisbelow": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "grid.color": GRID,
        "grid.linewidth": 0.7,
        "text.color": INK,
        "xtick.color": MUTED,
        "ytick.color": MUTED,
        "xtick.labelcolor": INK,
        "ytick.labelcolor": INK,
        "xtick.labelsize": 8.5,
        "ytick.labelsize": 8.5,
        "figure.facecolor": PAPER,
        "savefig.facecolor": PAPER,
        "svg.hashsalt": "scaling-study",
        "svg.fonttype": "path",
        "pdf.fonttype": 42,
        "figure.figsize": (width, HEIGHT_INCHES),
        "text.parse_math": False,  # a $ in a model's name is a $
    }
    with mpl.rc_context(), _quiet_fonts():
        mpl.rcdefaults()  # nothing of a user's matplotlibrc
        mpl.rcParams.update(settings)
        yield


def without_glyphs(titles: Iterable[str]) -> list[str]:
    """Titles with characters that neither FONT nor any of `further_fonts` has a glyph for."""
    titles = list(titles)
    with _quiet_fonts():
        known = set().union(*(get_font(findfont(name)).get_charmap() for name in (FONT, *further_fonts(titles))))
    return [title for title in titles if any(ord(character) not in known for character in title)]


@contextmanager
def _quiet_fonts() -> Iterator[None]:
    """Nothing is said about letters and weights that a font lacks: what matters is said once, in words of ours."""
    logger = logging.getLogger("matplotlib.font_manager")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from")
            yield
    finally:
        logger.setLevel(level)


def further_fonts(titles: Iterable[str]) -> list[str]:
    """Installed fonts with the letters of `titles` that FONT lacks, such as Chinese ones: each the first, by name, that
    has most of those that are left. What no font has is in none of them."""
    known = get_font(findfont(FONT)).get_charmap()
    lacking = {ord(character) for title in titles for character in title} - known.keys()
    if not lacking:
        return []
    has: dict[str, set[int]] = {}
    for entry in sorted(fontManager.ttflist, key=lambda entry: (entry.name, entry.fname)):
        if entry.style == "normal" and entry.name not in has and "Last Resort" not in entry.name:
            has[entry.name] = lacking & get_font(entry.fname).get_charmap().keys()
    chosen: list[str] = []
    while has and (best := max(has, key=lambda name: len(has[name] & lacking))) and has[best] & lacking:
        chosen.append(best)
        lacking -= has[best]
    return chosen


def height_for(num_labels: int) -> float:
    """Inches of a figure with so many labels beside its axes: the usual height until they would touch."""
    return max(HEIGHT_INCHES, 0.17 * num_labels)


def new_figure(width: float = PAGE_INCHES, height: float = HEIGHT_INCHES) -> Figure:
    """An empty figure for a page of PAGE_INCHES, narrower where the style asks for it; layout is left to
    `constrained`, so that nothing is cut off."""
    narrower = mpl.rcParams["figure.figsize"][0] / PAGE_INCHES
    return Figure(figsize=(width * narrower, height * narrower**0.5), layout="constrained")
