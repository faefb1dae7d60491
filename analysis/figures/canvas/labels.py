"""Labels beside points, placed where they cover neither a point nor another label.

A greedy search: points are taken from left to right, and each label gets the candidate place with the least overlap
with markers, bars and labels already placed. Deterministic, and good enough for the few dozen models of a study.
"""

import itertools
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.text import Text

from analysis.figures.canvas.axes import EndLabel, lay_out
from analysis.figures.canvas.style import PAPER
from analysis.laws.forms import Array

Box = tuple[float, float, float, float]
"""Left, bottom, right, top in pixels."""

_PLACES = ((1, 1), (1, -1), (-1, 1), (-1, -1), (0, 1), (0, -1), (1, 0), (-1, 0))
"""Directions from the point, in order of preference: corners first, which bars and fronts seldom cross."""
_DISTANCES = (5.0, 8.0, 13.0, 20.0, 28.0, 38.0)
"""From the point to the label, in points."""
_PRICE_OF_DISTANCE = 0.15
"""Area, in text heights per pixel of distance, that a label may cover to stay near its point."""
_WEIGHT_OF_MARKERS = 4
"""How much worse it is to cover a marker or another label than a line."""
_LEADER_FROM = 9.0
"""Labels further away than this, in points, get a thin line to their point."""
_MARKER_RADIUS = 5.5
"""Half the room that a marker takes, in points."""


def point_labels(ax: Axes, labels: Sequence[EndLabel], font_size: float = 8.5) -> None:
    """Annotate each (x, y) with its text, away from markers, lines of the axes and each other.

    Call last: it fixes the figure's layout.
    """
    figure = ax.get_figure(root=True)
    assert figure is not None
    lay_out(figure)
    figure.set_layout_engine("none")
    pixels = figure.dpi / 72
    centres = [tuple(ax.transData.transform((label.x, label.y))) for label in labels]
    radius = _MARKER_RADIUS * pixels
    taken = [(x - radius, y - radius, x + radius, y + radius) for x, y in centres] * _WEIGHT_OF_MARKERS
    taken += [box for line in ax.get_lines() for box in _pieces(ax, line, pixels)]
    frame = np.array(ax.get_window_extent().extents)
    for index in sorted(range(len(labels)), key=lambda i: (centres[i][0], centres[i][1])):
        label = labels[index]
        note = ax.annotate(
            label.text, xy=(label.x, label.y), xytext=(0, 0), textcoords="offset points", color=label.colour,
            fontsize=font_size, annotation_clip=False, zorder=4, ha="left", va="bottom",
            path_effects=[withStroke(linewidth=2.0, foreground=PAPER)],
        )  # fmt: skip
        size = Text.get_window_extent(note)
        box = _best_place(centres[index], size.width, size.height, pixels, np.array(taken), frame)
        offset = ((box[0] - centres[index][0]) / pixels, (box[1] - centres[index][1]) / pixels)
        note.set_position(offset)
        near = np.clip(centres[index], box[:2], box[2:]) - centres[index]
        if np.hypot(*near) / pixels > _LEADER_FROM:
            _leader(ax, label, near / pixels)
        taken += [(box[0] - pixels, box[1] - pixels, box[2] + pixels, box[3] + pixels)] * _WEIGHT_OF_MARKERS


def _leader(ax: Axes, label: EndLabel, offset: Array) -> None:
    """A thin line from the point to the nearest edge of its label."""
    line = {"arrowstyle": "-", "color": label.colour, "linewidth": 0.6, "alpha": 0.6, "shrinkA": 0, "shrinkB": 4}
    ax.annotate(
        "", xy=(label.x, label.y), xytext=tuple(offset), textcoords="offset points", annotation_clip=False,
        arrowprops=line
    )  # fmt: skip


def _best_place(centre: Sequence[float], width: float, height: float, pixels: float, taken: Array, frame: Array) -> Box:
    """The first place with the least area covered, places outside the axes counting as covered."""
    places = []
    for distance in _DISTANCES:
        for right, up in _PLACES:
            left = centre[0] + right * distance * pixels - width * (1 - right) / 2
            bottom = centre[1] + up * distance * pixels - height * (1 - up) / 2
            places.append((left, bottom, left + width, bottom + height))
    boxes = np.array(places)
    covered = _overlap(boxes[:, None], taken[None]).sum(axis=1) + width * height - _overlap(boxes, frame[None])
    away = np.repeat(_DISTANCES, len(_PLACES)) * pixels
    return places[int(np.argmin(np.round(covered + _PRICE_OF_DISTANCE * height * away)))]


def _pieces(ax: Axes, line: Line2D, pixels: float) -> list[Box]:
    """A drawn line cut into small boxes."""
    if line.get_linestyle() == "None":
        return []
    path = ax.transData.transform(np.asarray(line.get_path().vertices))
    boxes = []
    for (x0, y0), (x1, y1) in itertools.pairwise(path):
        count = max(1, round(max(abs(x1 - x0), abs(y1 - y0)) / (4 * pixels)))
        for part in range(count + 1):
            x, y = x0 + (x1 - x0) * part / count, y0 + (y1 - y0) * part / count
            boxes.append((x - 2 * pixels, y - 2 * pixels, x + 2 * pixels, y + 2 * pixels))
    return boxes


def _overlap(a: Array, b: Array) -> Array:
    """Area shared by boxes (x0, y0, x1, y1) along the last axis."""
    width = np.minimum(a[..., 2], b[..., 2]) - np.maximum(a[..., 0], b[..., 0])
    height = np.minimum(a[..., 3], b[..., 3]) - np.maximum(a[..., 1], b[..., 1])
    return np.asarray(np.maximum(width, 0.0) * np.maximum(height, 0.0))
