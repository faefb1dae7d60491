"""Figures: token-mixing units as maps over the patch grid (Mixer, arXiv 2105.01601, Figure 5), and stem filters.

All maps of a layer are one image, so that a layer of 640 units stays a small file. Each map is scaled by its own
largest weight: shape and sign are shown, not size.
"""

import math

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.figures.canvas.drawing import Drawing
from analysis.figures.canvas.style import new_figure
from analysis.first_layer_maps.first_layers import FirstLayers
from analysis.first_layer_maps.unit_pairs import (
    Array,
    Pairs,
    median_cosine_by_chance,
    pair_opposites,
    spatial_frequency,
)

_PANEL_INCHES = 3.6
"""Width of the panel of one layer."""
_GAP = 1
"""Pixels between the two maps of a pair, and between filters."""


def token_mixing_figure(layers: FirstLayers) -> Drawing:
    """A panel per layer: units side by side with their nearest inverse, pairs from low to high frequency."""
    pairs_of_layers = [pair_opposites(maps) for maps in layers.token_units]
    mosaics = [_mosaic_of_pairs(maps, pairs) for maps, pairs in zip(layers.token_units, pairs_of_layers, strict=True)]
    tallest = max(mosaic.shape[0] / mosaic.shape[1] for mosaic in mosaics)
    figure = new_figure(width=_PANEL_INCHES * len(mosaics), height=_PANEL_INCHES * tallest + 0.8)
    panels = figure.subplots(1, len(mosaics), squeeze=False)[0]
    tables = []
    for number, (panel, mosaic) in enumerate(zip(panels, mosaics, strict=True), start=1):
        maps, pairs = layers.token_units[number - 1], pairs_of_layers[number - 1]
        panel.imshow(mosaic, cmap="RdBu_r", vmin=-1, vmax=1, interpolation="nearest")
        panel.set_title(f"layer {number}: {len(maps)} units", fontsize=9, pad=4)
        panel.set_axis_off()
        tables.append(_pair_table(number, maps, pairs))
    figure.suptitle(layers.title, fontsize=10, fontweight="bold")
    side = layers.token_units[0].shape[-1]
    return Drawing(
        name="token_mixing",
        title=f"Token-mixing units of {layers.title}",
        caption=(
            f"First-layer weights of the token-mixing MLPs, one map of {side} x {side} patches per unit (blue is "
            "negative, red positive, each scaled by its largest weight). Each unit stands beside its nearest inverse; "
            "pairs read from low to high spatial frequency, row by row."
        ),
        figure=figure,
        points=pd.concat(tables, ignore_index=True),
    )


def stem_figure(layers: FirstLayers) -> Drawing:
    """Filters of the stem as small colour images, from low to high frequency."""
    frequency = spatial_frequency(layers.stem)
    order = np.argsort(frequency, kind="stable")
    largest = np.abs(layers.stem).max(axis=(1, 2, 3), keepdims=True)
    scaled = np.divide(layers.stem, largest, out=np.zeros_like(layers.stem), where=largest > 0)
    tiles = (0.5 + 0.5 * scaled[order]).transpose(0, 2, 3, 1)
    figure = new_figure(width=6.4, height=6.0)
    panel = figure.subplots()
    panel.imshow(_tile(tiles, _columns_of(len(tiles), 1.0), _GAP, fill=1.0), interpolation="nearest")
    panel.set_axis_off()
    figure.suptitle(layers.title, fontsize=10, fontweight="bold")
    side = layers.stem.shape[-1]
    return Drawing(
        name="stem",
        title=f"Stem filters of {layers.title}",
        caption=(
            f"The {len(tiles)} filters of the stem, {side} x {side} pixels each (grey is zero, each scaled by "
            "its largest weight), from low to high spatial frequency, row by row."
        ),
        figure=figure,
        points=pd.DataFrame({"place": range(len(order)), "filter": order, "cycles": frequency[order]}),
    )


def layer_summary(layers: FirstLayers) -> pd.DataFrame:
    """One row per layer: units, how opposite the paired ones are, what chance would give, and their frequency."""
    rows = []
    for number, maps in enumerate(layers.token_units, start=1):
        pairs = pair_opposites(maps)
        side = maps.shape[-1]
        rows.append(
            {
                "layer": str(number),
                "units": str(len(maps)),
                "map": f"{side} x {side}",
                "cosine to nearest inverse, median": f"{np.median(pairs.cosine):.2f}",
                "by chance": f"{median_cosine_by_chance(maps):.2f}",
                "cycles per side, median": f"{np.median(pairs.frequency):.2f}",
            }
        )
    return pd.DataFrame(rows)


def _pair_table(layer: int, maps: Array, pairs: Pairs) -> pd.DataFrame:
    frequency = spatial_frequency(maps)
    return pd.DataFrame(
        {
            "layer": layer,
            "place": range(len(pairs.first)),
            "unit": pairs.first,
            "inverse": pairs.second,
            "cosine": pairs.cosine,
            "unit_cycles": frequency[pairs.first],
            "inverse_cycles": frequency[pairs.second],
        }
    )


def _mosaic_of_pairs(maps: Array, pairs: Pairs) -> Array:
    """The unit with the positive sum stands left; NaN between maps is drawn as paper."""
    largest = np.abs(maps).max(axis=(1, 2), keepdims=True)
    scaled = np.divide(maps, largest, out=np.zeros_like(maps), where=largest > 0)
    is_positive = scaled[pairs.first].sum(axis=(1, 2)) >= scaled[pairs.second].sum(axis=(1, 2))
    left = np.where(is_positive, pairs.first, pairs.second)
    right = np.where(is_positive, pairs.second, pairs.first)
    gap = np.full((len(left), maps.shape[1], _GAP), np.nan)
    tiles = np.concatenate([scaled[left], gap, scaled[right]], axis=2)
    return _tile(tiles, _columns_of(len(tiles), 0.5), gap=max(2, maps.shape[-1] // 4), fill=np.nan)


def _columns_of(count: int, height_over_width: float) -> int:
    """Columns at which `count` tiles of this shape fill about a square."""
    return max(1, round(math.sqrt(count * height_over_width)))


def _tile(tiles: NDArray[np.float64], columns: int, gap: int, fill: float) -> NDArray[np.float64]:
    """(N, h, w, …) as one image, row by row, `gap` pixels apart."""
    num, height, width, *rest = tiles.shape
    rows = -(-num // columns)
    image = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, *rest), fill)
    for index, tile in enumerate(tiles):
        top, left = index // columns * (height + gap), index % columns * (width + gap)
        image[top : top + height, left : left + width] = tile
    return image
