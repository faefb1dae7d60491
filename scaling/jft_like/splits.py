"""The four parts of the data set and the samples of each: their labels, and their images put together and rendered.

Upstream training and validation are multi-label and noisy; few-shot support and test show unseen classes, one
object each, with clean single labels in equal numbers. A sample depends on the config, its split and its index: an
image on the seed, the stream it belongs to and its index alone; batches exist for speed.
"""

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from scaling.data.format.manifest import LabelType
from scaling.jft_like.classes import Taxonomy, make_taxonomy
from scaling.jft_like.config import JftLikeConfig
from scaling.jft_like.drawing.render import Grid, background, clouds, expose, paint_clutter, paint_objects
from scaling.jft_like.drawing.scene import cast_light, paint_background, place_main, place_second, strew_clutter
from scaling.jft_like.drawing.textures import TEXTURES
from scaling.jft_like.draws import Draws
from scaling.jft_like.labels import Contents, LabelModel, balanced_labels

PIXELS_PER_BATCH = 2**18
"""Pixels rendered at once: arrays of this size stay in the processor's cache."""

JPEG_OPTIONS: dict[str, Any] = {"format": "JPEG", "quality": 95, "subsampling": 0}
PNG_OPTIONS: dict[str, Any] = {"format": "PNG", "compress_level": 6}


@dataclass(frozen=True, slots=True)
class Split:
    """A part of the data set: its folder below the root, its size and the kind of its labels."""

    name: str
    folder: str
    num_samples: int
    label_type: LabelType


@dataclass(frozen=True, slots=True)
class Sample:
    """What goes into a shard: the members `key.image_extension` and `key.label_extension`."""

    key: str
    image_extension: str
    image: bytes
    label_extension: str
    label: bytes


def splits_of(config: JftLikeConfig) -> tuple[Split, ...]:
    """All splits, in the order in which they are made."""
    return (
        Split("train", "train", config.num_train, "multi"),
        Split("val", "val", config.num_val, "multi"),
        Split("support", "fewshot/support", config.support_per_class * config.num_unseen_classes, "single"),
        Split("test", "fewshot/test", config.num_test, "single"),
    )


def taxonomy_of(config: JftLikeConfig) -> Taxonomy:
    """The classes of a config."""
    return make_taxonomy(config.num_leaf_classes, config.num_unseen_classes, config.zipf_exponent, config.seed)


def make_samples(config: JftLikeConfig, split: Split, start: int, stop: int) -> Iterator[Sample]:
    """Samples `start` to `stop` of a split, rendered and encoded."""
    taxonomy = taxonomy_of(config)
    step = max(1, PIXELS_PER_BATCH // config.image_size**2)
    for first in range(start, stop, step):
        index = np.arange(first, min(first + step, stop))
        images, labels = render_batch(config, taxonomy, split, index)
        for number, image, label in zip(index.tolist(), images, labels, strict=True):
            extension, encoded = _encode_label(split, label)
            yield Sample(f"{number:09d}", config.image_format, _encode_image(config, image), extension, encoded)


def render_batch(
    config: JftLikeConfig, taxonomy: Taxonomy, split: Split, index: NDArray[np.int64]
) -> tuple[NDArray[np.uint8], list[list[int]]]:
    """Images (n, image_size, image_size, 3) and the published labels of the samples `index`."""
    draws = Draws.of(config.seed, split.name, index)
    if split.label_type == "multi":
        model = LabelModel(taxonomy, config.labels_per_image, config.noise)
        contents, labels = model.contents(draws), model.given_labels(draws)
    else:
        shown = balanced_labels(config.seed, split.name, index, len(taxonomy.unseen_names))
        factors = taxonomy.unseen_factors[shown]
        contents, labels = Contents(factors, factors, np.zeros(len(index), np.bool_)), shown[:, None].tolist()
    images = render_images(
        draws, contents, image_size=config.image_size, clutter=config.clutter, variation=config.variation
    )
    return images, labels


def _encode_image(config: JftLikeConfig, image: NDArray[np.uint8]) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, **(JPEG_OPTIONS if config.image_format == "jpg" else PNG_OPTIONS))
    return stream.getvalue()


def _encode_label(split: Split, label: list[int]) -> tuple[str, bytes]:
    if split.label_type == "single":
        return "cls", str(label[0]).encode()
    return "json", json.dumps({"labels": label}).encode()


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
