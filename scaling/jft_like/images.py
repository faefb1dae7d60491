"""From sample indices to images: puts the scene together and renders it.

An image depends on the seed, the stream it belongs to and its index alone; batches exist for speed.
"""

import numpy as np
from numpy.typing import NDArray

from scaling.jft_like.drawing.render import Grid, background, clouds, expose, paint_clutter, paint_objects
from scaling.jft_like.drawing.scene import cast_light, paint_background, place_main, place_second, strew_clutter
from scaling.jft_like.drawing.textures import TEXTURES
from scaling.jft_like.draws import Draws
from scaling.jft_like.labels import Contents

CLUTTER_SLOTS = 4
COARSE_CELLS = (2, 5, 11, 23, 47, 95)
FINE_CELLS = (13, 29, 61, 113)


def render_images(
    draws: Draws, contents: Contents, *, image_size: int, clutter: float, variation: float
) -> NDArray[np.uint8]:
    """Images (n, image_size, image_size, 3) of the contents, one for each of the draws."""
    grid = Grid(image_size)
    light = cast_light(draws.child("light"), variation)
    scene = paint_background(draws.child("background"), len(TEXTURES), variation)
    canvas = background(scene, light, clouds(draws.child("clouds"), image_size, COARSE_CELLS), grid)
    for slot in range(CLUTTER_SLOTS):
        piece = strew_clutter(draws.child(f"clutter {slot}"), clutter, 0.12, 0.5)
        paint_clutter(canvas, piece, light, grid)
    grain = clouds(draws.child("grain"), image_size, FINE_CELLS)
    pose = draws.child("pose")
    second = place_second(pose, contents.second, contents.has_second, variation)
    paint_objects(canvas, second, light, grain, grid)
    main = place_main(pose, contents.main, contents.has_second, variation)
    paint_objects(canvas, main, light, grain, grid)
    occluder = strew_clutter(draws.child("occluder"), 0.5 * clutter, 0.08, 0.3)
    paint_clutter(canvas, occluder, light, grid)
    return expose(canvas, light, draws.child("sensor"), grid)
