"""Arithmetic whose results are the same on every machine.

The data set's digest is part of a run's identity, so the same seed has to give the same pixels on an
AVX-512 server and on a laptop. Pixels are therefore made from operations that IEEE 754 rounds exactly (+, -,
*, /, sqrt, floor, comparisons) and from integers; `sin`, `exp` and matrix products, whose last bit depends on
the processor and on the libraries, are refused here and replaced by the small functions below.
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]


def wave(turns: Floats) -> Floats:
    """sin(2·pi·turns) within 1.1e-3, keeping the dtype: two nested parabolas, periodic in 1."""
    phase = turns - np.rint(turns)
    parabola = phase * (8.0 - 16.0 * np.abs(phase))
    return parabola * (0.775 + 0.225 * np.abs(parabola))


def cosine(turns: Floats) -> Floats:
    """cos(2·pi·turns), as `wave`."""
    return wave(turns + 0.25)


def length(x: Floats, y: Floats) -> Floats:
    """Euclidean length; `np.hypot` is not exactly rounded."""
    return np.sqrt(x * x + y * y)


def unit(value: Floats) -> Floats:
    """`value` clipped to [0, 1]."""
    return np.clip(value, 0.0, 1.0)


def ease(fraction: Floats) -> Floats:
    """The cubic that goes from 0 to 1 on [0, 1] with zero slope at both ends."""
    return fraction * fraction * (3.0 - 2.0 * fraction)
