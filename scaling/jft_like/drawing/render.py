"""Scenes to pixels: signed distances, textures and light evaluated for a whole batch at once.

Nothing is scaled up: every size is rendered from the same formulas with edges one pixel wide, and larger
images gain octaves of fine structure. Objects are grouped by family, so each formula runs once a batch; the
grouping changes no number. All arrays are float32 from exactly rounded operations (see `exact`).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scaling.jft_like.drawing.layouts import LAYOUTS
from scaling.jft_like.drawing.scene import Background, Clutter, Light, Objects, Rows
from scaling.jft_like.drawing.shapes import SHAPES_BY_PATH
from scaling.jft_like.drawing.textures import TEXTURES
from scaling.jft_like.draws import Draws, Keys, mix
from scaling.jft_like.exact import Floats, cosine, ease, length, unit, wave

Canvas = NDArray[np.float32]
"""Shape (images, 3, size, size), linear colour, mostly within [0, 1]."""

SHAPE_FUNCTIONS = tuple(SHAPES_BY_PATH.values())
TEXTURE_FUNCTIONS = tuple(TEXTURES.values())
LAYOUT_FUNCTIONS = tuple(LAYOUTS.values())


@dataclass(frozen=True)
class Grid:
    """Pixel centres of a square image of `size` pixels, in half-widths."""

    size: int

    @property
    def pixel(self) -> float:
        """Width of a pixel."""
        return 2.0 / self.size

    @property
    def x(self) -> NDArray[np.float32]:
        """Shape (1, 1, size)."""
        return ((np.arange(self.size) + 0.5) * self.pixel - 1.0).astype(np.float32)[None, None, :]

    @property
    def y(self) -> NDArray[np.float32]:
        """Shape (1, size, 1)."""
        return self.x.transpose(0, 2, 1)


def _each(values: Rows) -> NDArray[np.float32]:
    """One number per image, (n,), ready to meet its pixels: (n, 1, 1) in float32."""
    return values.astype(np.float32)[:, None, None]


def _colours(values: Rows) -> NDArray[np.float32]:
    """One colour per image, (n, 3), as (n, 3, 1, 1) in float32."""
    return values.astype(np.float32)[:, :, None, None]


def clouds(draws: Draws, size: int, cells: tuple[int, ...]) -> Floats:
    """Smooth noise about 0 within [-1, 1], (n, size, size): one octave of halved weight for each number of cells.

    Octaves finer than two pixels a cell are left out, so that large images show more of the same field.
    """
    total = np.zeros((len(draws.keys), size, size), np.float32)
    weight, weights = 1.0, 0.0
    for count in cells:
        if 2 * count > size:
            break
        lattice = draws.uniform(f"cells {count}", -1.0, 1.0, count=(count + 1) ** 2).astype(np.float32)
        position = ((np.arange(size) + 0.5) * count / size).astype(np.float32)
        low = np.floor(position).astype(np.intp)
        along = ease(position - low)
        lattice = lattice.reshape(-1, count + 1, count + 1)
        rows = lattice[:, low] + (lattice[:, low + 1] - lattice[:, low]) * along[:, None]
        left = rows[:, :, low]
        total += np.float32(weight) * (left + (rows[:, :, low + 1] - left) * along)
        weights += weight
        weight *= 0.6
    return total * np.float32(1.0 / max(weights, 1.0))


def _by_family(family: NDArray[np.int64]) -> list[tuple[int, NDArray[np.intp]]]:
    return [(int(value), np.flatnonzero(family == value)) for value in np.unique(family)]


def _texture(family: NDArray[np.int64], u: Floats, v: Floats, gain: Floats) -> Floats:
    weight = np.empty_like(u)
    for value, rows in _by_family(family):
        weight[rows] = TEXTURE_FUNCTIONS[value](u[rows], v[rows], gain[rows])
    return weight


def _texture_gain(period: Rows, softness: Rows, pixel: float) -> Floats:
    """Pixels a period over 2·pi times the width of a soft edge: the slope of a wave at its zero crossing."""
    return np.maximum(_each(period / (6.2832 * pixel * softness)), np.float32(0.5))


def background(scene: Background, light: Light, noise: Floats, grid: Grid) -> Canvas:
    """The backdrop of every image, before anything stands in front of it."""
    x, y = grid.x, grid.y
    gradient = _each(scene.gradient[:, 0]) * x + _each(scene.gradient[:, 1]) * y + _each(scene.gradient[:, 2])
    mixture = _each(scene.weights[:, 0]) * gradient + _each(scene.weights[:, 1]) * (0.5 + noise)
    patterned = np.flatnonzero(scene.weights[:, 2] > 0)
    if len(patterned):
        turn, period = scene.turn[patterned], scene.period[patterned]
        across, along = _each(cosine(turn) / period), _each(wave(turn) / period)
        u = across * x + along * y + _each(scene.phase_u[patterned])
        v = across * y - along * x + _each(scene.phase_v[patterned])
        gain = _texture_gain(period, light.softness[patterned], grid.pixel)
        pattern = _texture(scene.pattern[patterned], u, v, gain)
        mixture[patterned] += _each(scene.weights[patterned, 2]) * pattern
    below = _each(scene.horizon[:, 0]) * x + _each(scene.horizon[:, 1]) * y - _each(scene.horizon[:, 2])
    mixture += _each(scene.ground) * unit(0.5 + below / (np.float32(2.0 * grid.pixel)))
    first = _colours(scene.first)
    return first + mixture[:, None] * (_colours(scene.second) - first)


def paint_clutter(canvas: Canvas, scene: Clutter, light: Light, grid: Grid) -> None:
    """Paint one slot of clutter over the canvas, in place."""
    if not len(scene.image):
        return
    x, y = grid.x - _each(scene.centre_x), grid.y - _each(scene.centre_y)
    cos, sin = _each(cosine(scene.turn)), _each(wave(scene.turn))
    along, across = cos * x + sin * y, cos * y - sin * x
    radius = _each(scene.half_height)
    beyond = np.maximum(np.abs(along) - (_each(scene.half_width) - radius), 0.0)
    distance = length(beyond, across) - radius
    distance = np.where(scene.loop[:, None, None], np.abs(distance) - 0.4 * radius, distance)
    shade = unit(0.5 + along / (4.0 * _each(scene.half_width)))
    cover = unit(0.5 - distance / _each(grid.pixel * light.softness[scene.image]))
    colour = _colours(scene.colour)
    colour = colour + shade[:, None] * (_colours(scene.accent) - colour)
    behind = canvas[scene.image]
    canvas[scene.image] = behind + cover[:, None] * (colour - behind)


def object_distance(scene: Objects, x: Floats, y: Floats) -> Floats:
    """Signed distance of each object at object coordinates, layout and shape together."""
    distance = np.empty_like(x)
    vary, arrange = _each(scene.vary), _each(scene.arrange)
    shape_x, shape_y = np.empty_like(x), np.empty_like(y)
    layouts = _by_family(scene.factors[:, 3])
    for value, rows in layouts:
        layout = LAYOUT_FUNCTIONS[value]
        folded_x, folded_y = layout.fold(x[rows], y[rows], arrange[rows])
        shape_x[rows], shape_y[rows] = folded_x * np.float32(1 / layout.scale), folded_y * np.float32(1 / layout.scale)
    for value, rows in _by_family(scene.factors[:, 0]):
        distance[rows] = SHAPE_FUNCTIONS[value](shape_x[rows], shape_y[rows], vary[rows])
    for value, rows in layouts:
        layout = LAYOUT_FUNCTIONS[value]
        distance[rows] *= np.float32(layout.scale)
        if layout.finish is not None:
            distance[rows] = layout.finish(distance[rows], x[rows], y[rows], arrange[rows])
    return distance


def _slopes(distance: Floats) -> tuple[Floats, Floats]:
    """Change of the distance per pixel to the right and downwards, by central differences."""
    right, down = np.empty_like(distance), np.empty_like(distance)
    right[:, :, 1:-1] = 0.5 * (distance[:, :, 2:] - distance[:, :, :-2])
    right[:, :, 0], right[:, :, -1] = right[:, :, 1], right[:, :, -2]
    down[:, 1:-1] = 0.5 * (distance[:, 2:] - distance[:, :-2])
    down[:, 0], down[:, -1] = down[:, 1], down[:, -2]
    return right, down


def paint_objects(canvas: Canvas, scene: Objects, light: Light, grain: Floats, grid: Grid) -> None:
    """Paint one object into each of its images, in place, with its shadow, relief and texture."""
    if not len(scene.image):
        return
    offset_x, offset_y = grid.x - _each(scene.centre_x), grid.y - _each(scene.centre_y)
    a, b, c, d = (_each(scene.inverse[:, column]) for column in range(4))
    distance = object_distance(scene, a * offset_x + b * offset_y, c * offset_x + d * offset_y)
    right, down = _slopes(distance)
    # Half of the map's mean slope is the floor: on ridges of the distance the measured slope vanishes.
    floor = _each(np.sqrt(np.abs(scene.inverse[:, 0] * scene.inverse[:, 3])) * (0.5 * grid.pixel))
    slope = np.maximum(length(right, down), floor)
    pixels = distance / slope

    softness = light.softness[scene.image]
    towards_x, towards_y = _each(light.direction_x[scene.image]), _each(light.direction_y[scene.image])
    facing = (right * towards_x + down * towards_y) / slope
    near_edge = unit(1.0 + distance / (_each(scene.bevel) * (slope / floor * np.float32(0.5))))
    shade = 1.0 + _each(light.relief[scene.image]) * near_edge * facing + np.float32(0.25) * grain[scene.image]

    turn, period = scene.texture_turn, scene.texture_period
    across, along = _each(cosine(turn) / period), _each(wave(turn) / period)
    u = across * offset_x + along * offset_y + _each(scene.texture_u)
    v = across * offset_y - along * offset_x + _each(scene.texture_v)
    weight = _texture(scene.factors[:, 1], u, v, _texture_gain(period, softness, grid.pixel))

    reach = np.float32(0.16 / grid.pixel)
    shadow = unit(0.5 - (pixels + reach * facing) / np.float32(0.3 / grid.pixel))
    cover = unit(0.5 - pixels / _each(softness))
    base = _colours(scene.base)
    surface = (base + weight[:, None] * (_colours(scene.accent) - base)) * shade[:, None]
    behind = canvas[scene.image] * (1.0 - _each(light.shadow[scene.image]) * shadow)[:, None]
    canvas[scene.image] = behind + cover[:, None] * (surface - behind)


def expose(canvas: Canvas, light: Light, draws: Draws, grid: Grid) -> NDArray[np.uint8]:
    """Light the scene, add the sensor's grain and quantise: (images, size, size, 3)."""
    falloff = 1.0 + _each(light.falloff[:, 0]) * grid.x + _each(light.falloff[:, 1]) * grid.y
    canvas = canvas * falloff[:, None] * _colours(light.colour)
    pixels: Keys = np.arange(grid.size**2, dtype=np.uint64)
    keys: Keys = draws.bits("grain")[:, None] + pixels
    words = mix(keys).view(np.uint16).reshape(len(keys), -1, 4)[:, :, :3].transpose(0, 2, 1)
    noise = (words.astype(np.float32) * np.float32(2.0**-15) - 1.0).reshape(canvas.shape)
    canvas = unit(canvas + noise * _colours(np.repeat(light.grain[:, None], 3, axis=1)))
    return np.ascontiguousarray((canvas * np.float32(255) + np.float32(0.5)).astype(np.uint8).transpose(0, 2, 3, 1))
