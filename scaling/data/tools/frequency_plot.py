"""Images per class from the most to the least frequent one: a level line for balanced data, a falling one for a tail.

Both axes are logarithmic where the counts span a factor of ten or more, as a power law is then a straight line.
Classes without an image have no place on such an axis; the title counts them.
"""

from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter
from numpy.typing import NDArray

COLOUR = "#00508f"
LONG_TAIL_RATIO = 10
"""Largest over smallest count from which the axes are logarithmic."""
MARKED_CLASSES = 200
"""Up to so many classes each has a dot."""
PNG_DPI = 150


def draw_class_frequencies(counts: NDArray[np.int64], out: Path, *, name: str) -> None:
    """Write `frequency_figure` as a PNG; nothing of a user's matplotlibrc changes it."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams["text.parse_math"] = False  # a $ in a name is a $
        frequency_figure(counts, name).savefig(out, format="png", dpi=PNG_DPI, metadata={"Software": None})


def frequency_figure(counts: NDArray[np.int64], name: str) -> Figure:
    """The images of each class (number of classes,) over its rank, 1 being the most frequent one."""
    ranked = np.sort(counts[counts > 0])[::-1]
    figure = Figure(figsize=(7.0, 4.4), layout="constrained")
    axes = figure.add_subplot()
    marker = "o" if len(ranked) <= MARKED_CLASSES else ""
    axes.plot(np.arange(1, len(ranked) + 1), ranked, color=COLOUR, marker=marker, markersize=3.5, linewidth=1.2)
    if len(ranked) and ranked[0] >= LONG_TAIL_RATIO * ranked[-1]:
        axes.set_xscale("log")
        axes.set_yscale("log")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_minor_formatter(NullFormatter())
    else:
        axes.set_ylim(bottom=0)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    axes.set_xlabel("rank of the class")
    axes.set_ylabel("images of the class")
    axes.set_title(f"{name}: {describe_tail(counts)}", loc="left", fontsize=9.5)
    axes.grid(color="#e3e5e8", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def describe_tail(counts: NDArray[np.int64]) -> str:
    """Classes with and without images, and how few of the most frequent ones carry half of all labels."""
    present = int(np.count_nonzero(counts))
    text = f"{present:,} of {len(counts):,} classes have images"
    if not present:
        return text
    cumulative = np.cumsum(np.sort(counts)[::-1])
    num_half = int(np.searchsorted(2 * cumulative, cumulative[-1])) + 1
    return f"{text}; the {num_half:,} most frequent carry half of the labels"
