"""Texture families: how much of the accent colour, in [0, 1], covers a point of a surface.

A texture maps two surface coordinates, measured in periods, and a `gain` to a mixing weight. The gain is the
number of pixels that a soft edge may take up, inverted: at 32 px a stripe fades like a sine, at 224 px it has a
crisp edge, and neither aliases. All arrays are (objects, height, width); the gain is (objects, 1, 1).
"""

from collections.abc import Callable

import numpy as np

from scaling.jft_like.exact import Floats, length, unit, wave

Texture = Callable[[Floats, Floats, Floats], Floats]


def _edge(signal: Floats, gain: Floats) -> Floats:
    return unit(0.5 + signal * gain)


def plain(u: Floats, v: Floats, gain: Floats) -> Floats:
    """A slow drift of colour across the surface."""
    return 0.12 + 0.1 * wave(0.1 * u + 0.07 * v)


def striped(u: Floats, v: Floats, gain: Floats) -> Floats:
    return _edge(wave(u), gain)


def checked(u: Floats, v: Floats, gain: Floats) -> Floats:
    return _edge(wave(0.6 * u) * wave(0.6 * v), 1.6 * gain)


def dotted(u: Floats, v: Floats, gain: Floats) -> Floats:
    column, row = 0.8 * u, 0.8 * v
    column = column + 0.5 * (np.rint(row) - 2.0 * np.rint(0.5 * np.rint(row)))
    return _edge(0.28 - length(column - np.rint(column), row - np.rint(row)), 5.0 * gain)


def ringed(u: Floats, v: Floats, gain: Floats) -> Floats:
    return _edge(wave(length(u, v)), gain)


def zigzag(u: Floats, v: Floats, gain: Floats) -> Floats:
    fold = np.abs(0.5 * v - np.rint(0.5 * v))
    return _edge(wave(0.8 * u + 2.0 * fold), gain)


def mottled(u: Floats, v: Floats, gain: Floats) -> Floats:
    """Irregular blotches: plane waves that bend each other."""
    bend = wave(0.23 * u - 0.31 * v)
    blotches = wave(0.43 * u + 0.29 * v + 0.35 * bend) + wave(0.37 * v - 0.24 * u + 0.3 * bend + 0.3)
    return _edge(0.7 * blotches + 0.25 * wave(1.1 * u + 0.7 * bend) - 0.1, gain)


def netted(u: Floats, v: Floats, gain: Floats) -> Floats:
    """Thin lines of the accent colour in both directions."""
    return _edge(np.maximum(wave(0.7 * u), wave(0.7 * v)) - 0.72, 1.5 * gain)


TEXTURES: dict[str, Texture] = {
    "striped": striped,
    "plain": plain,
    "dotted": dotted,
    "mottled": mottled,
    "checked": checked,
    "ringed": ringed,
    "zigzag": zigzag,
    "netted": netted,
}
"""In the order in which they come into use as there are more classes."""
