"""Where things are in an image: objects with their pose and coat, clutter, background and light.

A scene holds everything about a batch of images that does not depend on their resolution. Lengths are in
half-widths of the image, whose corners are (-1, -1) and (1, 1). All of it is nuisance except the factors of the
objects: the range of pose, size, light, background and clutter is what makes a class more than a few templates.
"""

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from scaling.jft_like.classes import Factors
from scaling.jft_like.drawing.palettes import PALETTE_COLOURS
from scaling.jft_like.draws import Draws
from scaling.jft_like.exact import cosine, wave

Rows = NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class Objects:
    """Parameters of n objects. `image` is the row of the image each belongs to; numbers have shape (n,),
    colours (n, 3). `inverse` (n, 4) maps image offsets to object coordinates, row by row."""

    image: NDArray[np.intp]
    factors: Factors
    centre_x: Rows
    centre_y: Rows
    inverse: Rows
    vary: Rows
    arrange: Rows
    base: Rows
    accent: Rows
    texture_period: Rows
    texture_turn: Rows
    texture_u: Rows
    texture_v: Rows
    bevel: Rows

    def take(self, rows: NDArray[np.intp]) -> "Objects":
        """Some of the objects."""
        return Objects(*(getattr(self, field.name)[rows] for field in fields(self)))


@dataclass(frozen=True, slots=True)
class Light:
    """Of n images: direction of the light (n,), strength of its relief and shadows (n,), its colour (n, 3),
    its fall-off over the image (n, 2), softness of edges (n,) and grain of the sensor (n,)."""

    direction_x: Rows
    direction_y: Rows
    relief: Rows
    shadow: Rows
    colour: Rows
    falloff: Rows
    softness: Rows
    grain: Rows


@dataclass(frozen=True, slots=True)
class Background:
    """Of n images: two colours (n, 3), a gradient (n, 3: x, y, offset), weights of gradient, clouds and pattern
    (n, 3), a horizon (n, 3: x, y, offset; weight `ground`), and the pattern's family, period, turn and phases."""

    first: Rows
    second: Rows
    gradient: Rows
    weights: Rows
    horizon: Rows
    ground: Rows
    pattern: NDArray[np.int64]
    period: Rows
    turn: Rows
    phase_u: Rows
    phase_v: Rows


@dataclass(frozen=True, slots=True)
class Clutter:
    """Of one slot of small unlabelled things: rounded bars, blobs and loops. As `Objects`, but simpler."""

    image: NDArray[np.intp]
    centre_x: Rows
    centre_y: Rows
    turn: Rows
    half_width: Rows
    half_height: Rows
    loop: NDArray[np.bool_]
    colour: Rows
    accent: Rows


def place_main(draws: Draws, factors: Factors, has_second: NDArray[np.bool_], variation: float) -> Objects:
    """The main object of every image: large and near the middle, smaller and to one side when there is a second."""
    size = np.where(has_second, draws.uniform("size", 0.42, 0.6), draws.uniform("size", 0.62, 0.95))
    side = draws.uniform("side")
    reach = np.where(has_second, 0.46, 0.0)
    centre_x = reach * cosine(side) + variation * (0.98 - size) * draws.uniform("x", -0.75, 0.75) * ~has_second
    centre_y = reach * wave(side) + variation * (0.98 - size) * draws.uniform("y", -0.75, 0.75) * ~has_second
    return _dress(draws, np.arange(len(factors)), factors, centre_x, centre_y, size, variation)


def place_second(draws: Draws, factors: Factors, has_second: NDArray[np.bool_], variation: float) -> Objects:
    """The second object, opposite to the main one, where there is one."""
    rows = np.flatnonzero(has_second)
    side, draws = draws.take(rows).uniform("side"), draws.child("second").take(rows)
    centre_x, centre_y = -0.5 * cosine(side), -0.5 * wave(side)
    size = draws.uniform("size", 0.34, 0.46)
    return _dress(draws, rows, factors[rows], centre_x, centre_y, size, variation)


def _dress(
    draws: Draws,
    image: NDArray[np.intp],
    factors: Factors,
    centre_x: Rows,
    centre_y: Rows,
    size: Rows,
    variation: float,
) -> Objects:
    turn = variation * draws.uniform("turn", -0.14, 0.14)
    stretch = 1.0 + variation * draws.uniform("stretch", -0.2, 0.25)
    shear = variation * draws.uniform("shear", -0.25, 0.25)
    mirror = np.where(draws.happens("mirror", 0.5 * variation), -1.0, 1.0)
    cos, sin = cosine(turn), wave(turn)
    inverse = np.stack(
        [mirror * (cos - shear * sin), mirror * (sin + shear * cos), -sin * stretch, cos * stretch], axis=1
    )
    colours = PALETTE_COLOURS[factors[:, 2]]
    swap = draws.happens("swap", 0.5)[:, None, None]
    jitter = variation * draws.uniform("colour", -0.12, 0.12, count=6).reshape(-1, 2, 3)
    value = 1.0 + variation * draws.uniform("value", -0.25, 0.2)
    colours = np.clip(np.where(swap, colours[:, ::-1], colours) * value[:, None, None] + jitter, 0.02, 1.0)
    return Objects(
        image=image,
        factors=factors,
        centre_x=centre_x,
        centre_y=centre_y,
        inverse=inverse / size[:, None],
        vary=draws.uniform("vary"),
        arrange=draws.uniform("arrange"),
        base=colours[:, 0],
        accent=colours[:, 1],
        texture_period=0.27 + variation * draws.uniform("period", -0.05, 0.08),
        texture_turn=turn + variation * draws.uniform("texture turn", -0.5, 0.5),
        texture_u=draws.uniform("texture u"),
        texture_v=draws.uniform("texture v"),
        bevel=draws.uniform("bevel", 0.12, 0.4),
    )


def cast_light(draws: Draws, variation: float) -> Light:
    """Light and camera of every image."""
    turn = draws.uniform("direction")
    falloff = draws.uniform("falloff turn")
    strength = variation * draws.uniform("falloff", 0.0, 0.3)
    brightness = 1.0 + variation * draws.uniform("brightness", -0.38, 0.22)
    tint = 1.0 + variation * draws.uniform("tint", -0.14, 0.14, count=3)
    return Light(
        direction_x=cosine(turn),
        direction_y=wave(turn),
        relief=draws.uniform("relief", 0.1, 0.5),
        shadow=draws.uniform("shadow", 0.1, 0.6),
        colour=brightness[:, None] * tint,
        falloff=np.stack([strength * cosine(falloff), strength * wave(falloff)], axis=1),
        softness=1.0 + variation * draws.uniform("softness", 0.0, 1.0) ** 2,
        grain=0.01 + variation * draws.uniform("grain", 0.0, 0.05),
    )


def _muted(draws: Draws, name: str) -> Rows:
    """A colour of any brightness and little saturation, (n, 3)."""
    grey = draws.uniform(f"{name} grey", 0.1, 0.9)[:, None]
    return np.clip(grey + draws.uniform(f"{name} hue", -0.2, 0.2, count=3), 0.02, 0.98)


def paint_background(draws: Draws, num_patterns: int, variation: float) -> Background:
    """Background of every image: any two colours, mixed by a gradient, clouds and perhaps a pattern."""
    first, second = _muted(draws, "first"), _muted(draws, "second")
    second = first + draws.uniform("contrast", 0.15, 0.8)[:, None] * (second - first)
    turn, tilt = draws.uniform("gradient turn"), draws.uniform("horizon tilt", -0.06, 0.06)
    patterned = draws.happens("patterned", 0.4 * variation)
    weights = np.stack(
        [
            draws.uniform("gradient weight", 0.1, 0.9),
            draws.uniform("cloud weight", 0.1, 0.9),
            np.where(patterned, draws.uniform("pattern weight", 0.4, 1.0), 0.0),
        ],
        axis=1,
    )
    return Background(
        first=first,
        second=second,
        gradient=np.stack([0.5 * cosine(turn), 0.5 * wave(turn), draws.uniform("gradient", 0.3, 0.7)], axis=1),
        weights=weights / np.maximum(weights.sum(axis=1, keepdims=True), 1.0),
        horizon=np.stack([wave(tilt), cosine(tilt), draws.uniform("horizon", -0.5, 0.7)], axis=1),
        ground=np.where(draws.happens("ground", 0.35 * variation), draws.uniform("ground weight", 0.3, 0.8), 0.0),
        pattern=draws.integers("pattern", num_patterns),
        period=draws.uniform("period", 0.22, 0.6),
        turn=draws.uniform("turn"),
        phase_u=draws.uniform("u"),
        phase_v=draws.uniform("v"),
    )


def strew_clutter(draws: Draws, probability: float, smallest: float, largest: float) -> Clutter:
    """One slot of clutter, present in an image with the given probability; half-lengths between the two sizes."""
    image = np.flatnonzero(draws.happens("present", probability))
    draws = draws.take(image)
    half_width = draws.uniform("width", smallest, largest)
    return Clutter(
        image=image,
        centre_x=draws.uniform("x", -1.05, 1.05),
        centre_y=draws.uniform("y", -1.05, 1.05),
        turn=draws.uniform("turn"),
        half_width=half_width,
        half_height=half_width * draws.uniform("aspect", 0.15, 1.0),
        loop=draws.happens("loop", 0.2),
        colour=draws.uniform("colour", 0.03, 0.97, count=3),
        accent=draws.uniform("accent", 0.03, 0.97, count=3),
    )
