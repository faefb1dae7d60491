"""Rolling-origin back-tests: fit what was known at an earlier size, predict what came next.

An origin is the largest size at or below a half, a quarter and an eighth of the largest; the points up to twice
the origin are the test (the next size where sizes lie further apart). Three sizes must remain to fit.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from analysis.laws.forms import Array

NUM_ORIGINS = 3
MIN_SIZES = 3
_CLOSE = 1 + 1e-9


@dataclass(frozen=True, slots=True)
class Fold:
    origin: float
    train: Array
    """[N] bool: points at or below the origin."""
    test: Array
    """[N] bool: points to predict."""
    doublings: float
    """Mean log2 distance of the test points from the origin."""


def folds(x: Array) -> list[Fold]:
    """The back-tests that sizes `x` [N] allow, latest origin first; none with fewer than four sizes."""
    return list(_folds(np.asarray(x, dtype=float)))


def _folds(x: Array) -> Iterator[Fold]:
    sizes = np.unique(x)
    last_origin = np.inf
    for power in range(1, NUM_ORIGINS + 1):
        below = sizes[sizes <= sizes[-1] / 2**power * _CLOSE]
        if len(below) < MIN_SIZES:
            return
        origin = float(below[-1])
        if origin == last_origin:
            continue
        last_origin = origin
        test = (x > origin) & (x <= 2 * origin * _CLOSE)
        if not test.any():
            test = x == sizes[sizes > origin][0]
        yield Fold(origin, x <= origin, test, float(np.mean(np.log2(x[test] / origin))))
