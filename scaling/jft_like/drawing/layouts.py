"""Layouts: how copies of a shape are arranged into one object.

A layout folds the object's coordinates, so that one evaluation of the shape draws all of its copies, and may
alter the resulting distance (an outline, a frame). Arrays are (objects, height, width); `vary` in [0, 1) is
(objects, 1, 1).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from scaling.jft_like.exact import Floats, length

Fold = Callable[[Floats, Floats, Floats], tuple[Floats, Floats]]
Finish = Callable[[Floats, Floats, Floats, Floats], Floats]


@dataclass(frozen=True, slots=True)
class Layout:
    """`fold` maps object to copy coordinates, `scale` is the size of a copy, `finish` alters its distance."""

    fold: Fold
    scale: float
    finish: Finish | None = None


def _stay(x: Floats, y: Floats, vary: Floats) -> tuple[Floats, Floats]:
    return x, y


def _mirror(x: Floats, y: Floats, vary: Floats) -> tuple[Floats, Floats]:
    return np.abs(x) - (0.58 + 0.1 * vary), y


def _row(x: Floats, y: Floats, vary: Floats) -> tuple[Floats, Floats]:
    pitch = 0.76 + 0.1 * vary
    column = np.clip(np.rint(x / pitch), -1.0, 1.0)
    return x - pitch * column, y + 0.3 * (vary - 0.5) * column


def _square(x: Floats, y: Floats, vary: Floats) -> tuple[Floats, Floats]:
    pitch = 0.53 + 0.07 * vary
    return np.abs(x) - pitch, np.abs(y) - pitch


def _outline(distance: Floats, x: Floats, y: Floats, vary: Floats) -> Floats:
    return np.abs(distance + 0.14) - (0.11 + 0.04 * vary)


def _frame(distance: Floats, x: Floats, y: Floats, vary: Floats) -> Floats:
    return np.minimum(distance, np.abs(length(x, y) - 1.0) - (0.1 + 0.04 * vary))


LAYOUTS: dict[str, Layout] = {
    "single": Layout(_stay, 1.0),
    "quad": Layout(_square, 0.5),
    "hollow": Layout(_stay, 1.05, _outline),
    "pair": Layout(_mirror, 0.56),
    "framed": Layout(_stay, 0.66, _frame),
    "trio": Layout(_row, 0.41),
}
"""In the order in which they come into use as there are more classes."""
