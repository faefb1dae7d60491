"""Axes of a study: subset sizes as ticks, log scales with readable numbers, percent, and labels at line ends."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator
from matplotlib.transforms import Bbox

from analysis.figures.canvas.drawing import TITLE_GID
from analysis.figures.canvas.style import MUTED
from scaling.readable import count_text, number_text, percent_text

_ROOM_FOR_LABELS = 2.2
"""How much wider the right margin of a log axis is than the left one, for the labels of the last points."""
_LETTER_EMS = 0.6
"""Width of a letter of a tick's label in font sizes."""
_LEADER_GAPS_POINTS = (3.5, 4.0)
"""Between a leader and its label, and between it and its point."""
_LABEL_GAP = 1.12
"""Distance between the centres of two labels, in text heights."""


@dataclass(frozen=True, slots=True)
class EndLabel:
    """Text for the line that ends at (x, y) in data units."""

    text: str
    x: float
    y: float
    colour: str


def subset_size_axis(ax: Axes, fraction_of_size: Mapping[float, float | None], min_gap: float = 0.075) -> None:
    """Log x-axis with a tick at each subset size: the count and, where it is known, the share below it.

    Sizes closer than a label's width (`min_gap` of the axis) keep their tick and lose their text, the larger size
    staying.
    """
    sizes = sorted(fraction_of_size)
    ax.set_xscale("log")
    low, high = math.log(sizes[0]), math.log(sizes[-1])
    margin = 0.06 * (high - low) if high > low else 0.5
    ax.set_xlim(math.exp(low - margin), math.exp(high + margin))
    span = high - low + 2 * margin
    texts = {}
    last = math.inf
    for size in reversed(sizes):
        if last - math.log(size) >= min_gap * span:
            share = fraction_of_size[size]
            texts[size] = count_text(size) + (f"\n{percent_text(share)}" if share is not None else "")
            last = math.log(size)
    ax.xaxis.set_major_locator(FixedLocator(sizes))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: texts.get(min(sizes, key=lambda size: abs(size - x)), "")))
    ax.xaxis.set_minor_locator(NullLocator())


def log_axis(ax: Axes, values: Sequence[float], text: Callable[[float], str] = number_text) -> None:
    """Log x-axis around `values` with ticks at 1, 2 and 5 times powers of ten, fewer over long ranges and where their
    labels would touch."""
    low, high = min(values), max(values)
    ratio = max(high / low, 1.05)
    pad = ratio**0.07 if ratio > 1.5 else 1.3
    low, high = low / pad, high * pad**_ROOM_FOR_LABELS
    ax.set_xscale("log")
    ax.set_xlim(low, high)
    ticks = _log_ticks(low, high, lambda ticks: _labels_fit(ax, ticks, text))
    ax.xaxis.set_major_locator(FixedLocator(ticks))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: text(x)))


def _log_ticks(low: float, high: float, fits: Callable[[Sequence[float]], bool]) -> list[float]:
    """The densest readable ticks between two positive numbers whose labels fit: at least two where there is room."""
    decades = math.log10(high / low)
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)

    def ticks_at(steps: Sequence[float], every: int = 1) -> list[float]:
        ticks = [step * 10.0**power for power in exponents if power % every == 0 for step in steps]
        return [tick for tick in ticks if low <= tick <= high]

    choices = [ticks_at((1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0))] if decades < 0.75 else []
    choices += [ticks_at((1.0, 2.0, 5.0)), ticks_at((1.0, 3.0))] if decades < 2.5 else []
    choices += [ticks_at((1.0,), every) for every in range(1, max(2, len(exponents)))]
    choices += [[ticks[0], ticks[-1]] for ticks in choices if len(ticks) > 2]
    return next((ticks for ticks in choices if len(ticks) > 1 and fits(ticks)), next(filter(None, choices), [])[:1])


def _labels_fit(ax: Axes, ticks: Sequence[float], text: Callable[[float], str]) -> bool:
    """Whether the labels of ticks on a log x-axis do not touch, by the usual width of a letter."""
    low, high = ax.get_xlim()
    inches = ax.get_window_extent().width / ax.get_figure(root=True).dpi  # type: ignore[union-attr]
    letter = _LETTER_EMS * float(ax.xaxis.get_major_ticks(1)[0].label1.get_fontsize()) / 72
    for tick, following in pairwise(ticks):
        distance = inches * math.log(following / tick) / math.log(high / low)
        if letter * ((len(text(tick)) + len(text(following))) / 2 + 0.6) > distance:
            return False
    return True


def end_labels(ax: Axes, labels: Sequence[EndLabel], font_size: float = 8.5) -> None:
    """Write each label to the right of the axes at the height of its line's end, moved apart where they would
    touch, with a thin line to the point. Call last: it fixes
    the figure's layout."""
    figure = ax.get_figure(root=True)
    assert figure is not None
    notes = [
        ax.annotate(
            label.text,
            xy=(label.x, label.y),
            xytext=(1.025, 0.5),
            textcoords="axes fraction",
            va="center",
            ha="left",
            color=label.colour,
            fontsize=font_size,
            annotation_clip=False,
        )
        for label in labels
    ]
    figure.set_layout_engine("constrained", w_pad=0.1)
    lay_out(figure)
    text_height = max((Text.get_window_extent(note).height for note in notes), default=0.0)
    lacking = _LABEL_GAP * text_height * len(notes) - ax.get_window_extent().height
    if lacking > 0:
        figure.set_figheight(figure.get_figheight() + lacking / figure.dpi)
        lay_out(figure)
    figure.set_layout_engine("none")
    gap = _LABEL_GAP * text_height / ax.get_window_extent().height
    wanted = [ax.transAxes.inverted().transform(ax.transData.transform((label.x, label.y)))[1] for label in labels]
    for note, place in zip(notes, spread_apart(wanted, gap, (0.0, 1.0)), strict=True):
        note.set_position((1.025, place))
    _leaders(ax, labels, [Text.get_window_extent(note) for note in notes])


def lay_out(figure: Figure) -> None:
    """Give all parts of a figure their places, without drawing them."""
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.execute(figure)


def _leaders(ax: Axes, labels: Sequence[EndLabel], boxes: Sequence[Bbox]) -> None:
    """A thin line from each label, whose box is given in pixels, towards its point."""
    points = ax.figure.dpi / 72
    lines = []
    for label, box in zip(labels, boxes, strict=True):
        start = np.array([box.x0, (box.y0 + box.y1) / 2])
        end = ax.transData.transform((label.x, label.y))
        length = float(np.hypot(*(end - start)))
        along = (end - start) / length if length else np.zeros(2)
        if length > _LEADER_GAPS_POINTS[0] * points + _LEADER_GAPS_POINTS[1] * points:
            ends = [start + _LEADER_GAPS_POINTS[0] * points * along, end - _LEADER_GAPS_POINTS[1] * points * along]
            lines.append((ax.transAxes.inverted().transform(ends), label.colour))
    collection = LineCollection(
        [line for line, _ in lines], colors=[colour for _, colour in lines], linewidths=0.6, alpha=0.55, zorder=3,
        transform=ax.transAxes, clip_on=False
    )  # fmt: skip
    ax.add_collection(collection, autolim=False)


def spread_apart(
    wanted: Sequence[float], gap: float, inside: tuple[float, float] = (-math.inf, math.inf)
) -> list[float]:
    """The positions nearest to `wanted` (least squares) in the same order, at least `gap` apart and, as far as there
    is room, `inside` the ends.

    Groups that touch are merged and centred on the mean of what they want (pool adjacent violators).
    """
    room = gap * (len(wanted) - 1)
    low, high = inside if inside[1] - inside[0] >= room else (-math.inf, math.inf)
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    groups: list[list[float]] = []
    for position, index in enumerate(order):
        groups.append([wanted[index] - position * gap])
        while len(groups) > 1 and float(np.mean(groups[-2])) > float(np.mean(groups[-1])):
            tail = groups.pop()
            groups[-1] += tail
    placed = [min(max(float(np.mean(group)), low), high - room) for group in groups for _ in group]
    result = [0.0] * len(wanted)
    for position, index in enumerate(order):
        result[index] = placed[position] + position * gap
    return result


def value_axis(ax: Axes, label: str) -> None:
    """Linear y-axis with few round ticks."""
    ax.set_ylabel(label)
    ax.yaxis.set_major_locator(MaxNLocator(nbins=8, steps=[1, 2, 5, 10]))


def headline(ax: Axes, title: str, facts: str) -> None:
    """The title, and under it a small line that says what marks and bands are and how many runs stand behind them."""
    ax.set_title(title, pad=20.0, gid=TITLE_GID)
    ax.annotate(facts, xy=(0.0, 1.0), xytext=(0, 6), xycoords="axes fraction", textcoords="offset points",
                fontsize=7.5, color=MUTED, va="bottom", ha="left", annotation_clip=False, gid=TITLE_GID)  # fmt: skip
