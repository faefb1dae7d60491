"""Shape families: signed distances in a unit square, so that one formula serves every size.

A shape maps local coordinates (x to the right, y down, the object filling about [-1, 1]) and one free
parameter in [0, 1), which varies the shape within its family, to a distance that is negative inside. Distances
need not be exact far from the edge: the renderer divides by their slope. All arrays are (objects, height,
width); the parameter is (objects, 1, 1).
"""

from collections.abc import Callable

import numpy as np

from scaling.jft_like.exact import Floats, length

Shape = Callable[[Floats, Floats, Floats], Floats]


def _box(x: Floats, y: Floats, half_width: Floats | float, half_height: Floats | float) -> Floats:
    return np.maximum(np.abs(x) - half_width, np.abs(y) - half_height)


def _power(x: Floats, y: Floats, exponent: int) -> tuple[Floats, Floats]:
    """Radius, and cos(exponent·angle) by repeated complex multiplication (De Moivre)."""
    radius = length(x, y) + 1e-6
    cos, sin = x / radius, y / radius
    real, imaginary = cos, sin
    for bit in bin(exponent)[3:]:
        real, imaginary = real * real - imaginary * imaginary, 2.0 * real * imaginary
        if bit == "1":
            real, imaginary = real * cos - imaginary * sin, real * sin + imaginary * cos
    return radius, real


def disc(x: Floats, y: Floats, vary: Floats) -> Floats:
    return length(x, y * (1.0 + 0.3 * vary)) - 0.88


def ring(x: Floats, y: Floats, vary: Floats) -> Floats:
    return np.abs(length(x, y) - 0.66) - (0.17 + 0.12 * vary)


def crescent(x: Floats, y: Floats, vary: Floats) -> Floats:
    return np.maximum(length(x, y) - 0.92, 0.78 - length(x - (0.42 + 0.2 * vary), y))


def leaf(x: Floats, y: Floats, vary: Floats) -> Floats:
    offset = 0.7 + 0.4 * vary
    return length(np.abs(x) + offset, y) - np.sqrt(offset * offset + 1.0)


def square(x: Floats, y: Floats, vary: Floats) -> Floats:
    corner = 0.25 * vary
    outside = length(np.maximum(np.abs(x) - 0.74 + corner, 0.0), np.maximum(np.abs(y) - 0.74 + corner, 0.0))
    inside = np.minimum(_box(x, y, 0.74 - corner, 0.74 - corner), 0.0)
    return outside + inside - corner


def triangle(x: Floats, y: Floats, vary: Floats) -> Floats:
    shifted = y - 0.1 + 0.25 * (vary - 0.5) * x
    return np.maximum(0.866 * np.abs(x) - 0.5 * shifted - 0.46, shifted - 0.52)


def bar(x: Floats, y: Floats, vary: Floats) -> Floats:
    return _box(x, y, 0.22 + 0.16 * vary, 0.98)


def chevron(x: Floats, y: Floats, vary: Floats) -> Floats:
    arm = np.abs(0.7 * np.abs(x) - y - 0.25) - (0.26 + 0.1 * vary)
    return np.maximum(arm, np.abs(x) - 0.88)


def star(x: Floats, y: Floats, vary: Floats) -> Floats:
    """Five points, by reflections into one half of one point."""
    x, y = np.abs(x), -y
    for normal_x, normal_y in ((0.80901699, -0.58778525), (-0.80901699, -0.58778525)):
        beyond = 2.0 * np.maximum(x * normal_x + y * normal_y, 0.0)
        x, y = x - beyond * normal_x, y - beyond * normal_y
    x, y = np.abs(x), y - 1.0
    depth = 0.38 + 0.2 * vary
    edge_x, edge_y = depth * 0.58778525, depth * 0.80901699 - 1.0
    return (x * -edge_y + y * edge_x) / np.sqrt(edge_x * edge_x + edge_y * edge_y)


def flower(x: Floats, y: Floats, vary: Floats) -> Floats:
    radius, petals = _power(x, y, 5)
    return radius - 0.68 - (0.18 + 0.1 * vary) * petals


def gear(x: Floats, y: Floats, vary: Floats) -> Floats:
    radius, teeth = _power(x, y, 8)
    rim = radius - 0.78 - 0.12 * np.clip(2.5 * teeth, -1.0, 1.0)
    return np.maximum(rim, 0.22 + 0.16 * vary - radius)


def cross(x: Floats, y: Floats, vary: Floats) -> Floats:
    thickness = 0.22 + 0.12 * vary
    return np.minimum(_box(x, y, 0.9, thickness), _box(x, y, thickness, 0.9))


def arrow(x: Floats, y: Floats, vary: Floats) -> Floats:
    shaft = _box(x, y - 0.42, 0.16 + 0.12 * vary, 0.5)
    head = np.maximum(0.8 * np.abs(x) - 0.6 * (y + 0.95), y)
    return np.minimum(shaft, head)


def fish(x: Floats, y: Floats, vary: Floats) -> Floats:
    offset = 0.45 + 0.25 * vary
    body = length(x + 0.22, np.abs(y) + offset) - np.sqrt(offset * offset + 0.5)
    tail = np.maximum(np.abs(y) - 0.9 * (x - 0.18), x - 0.85)
    return np.minimum(body, tail)


def hammer(x: Floats, y: Floats, vary: Floats) -> Floats:
    head = _box(x, y + 0.6, 0.66 + 0.2 * vary, 0.26)
    return np.minimum(head, _box(x, y - 0.25, 0.15, 0.65))


def mushroom(x: Floats, y: Floats, vary: Floats) -> Floats:
    cap = np.maximum(length(x, y) - 0.9, y - 0.02)
    return np.minimum(cap, _box(x, y - 0.4, 0.17 + 0.14 * vary, 0.5))


SHAPES: dict[str, dict[str, Shape]] = {
    "round": {"disc": disc, "ring": ring, "crescent": crescent, "leaf": leaf},
    "angular": {"square": square, "triangle": triangle, "bar": bar, "chevron": chevron},
    "radial": {"star": star, "flower": flower, "gear": gear, "cross": cross},
    "limbed": {"arrow": arrow, "fish": fish, "hammer": hammer, "mushroom": mushroom},
}
"""Kind of shape -> family -> signed distance. The two outer levels of the class hierarchy."""

SHAPES_BY_PATH: dict[str, Shape] = {
    f"{kind}.{name}": SHAPES[kind][name]
    for turn in zip(*SHAPES.values(), strict=True)
    for kind, name in zip(SHAPES, turn, strict=True)
}
"""`kind.family` -> signed distance, in the order in which they come into use as there are more classes: one
shape of every kind, then the next of every kind."""
