"""What happens to pixels between decoding and the model: training crops, evaluation crops.

Random draws are a function of (seed, position) alone: a counter-based generator (Philox) is advanced to the
position, so neither workers nor batches nor a restart can change what an image looks like at a step.

    inception   crop of 5-100 % of the area, aspect ratio 3/4 to 4/3, resized bilinearly, random flip (Mixer,
                Section 3, "Pre-training"; ranges from big_vision's `inception_crop`)
    flip        random flip only; the image is resized to the input size
    none        resized to the input size
    crop        resized to a larger square, aspect ratio not kept, then a random crop of the input size (BiT-HyperRule)
    crop_flip   the same with a random flip
                (each may be followed by RandAugment)
    upstream    short side to 8/7 of the input size, centre crop (256 -> 224 in the papers)
    fewshot     both sides to 8/7 of the input size, aspect ratio not kept, centre crop (big_vision's few-shot)
    whole       both sides to the input size, nothing cut off (BiT-HyperRule)
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from scaling.data.read.images.decode import Pixels
from scaling.data.read.images.jpeg_region import Box
from scaling.data.read.images.randaugment import WORDS_PER_LAYER, randaugment
from scaling.data.select.random_streams import RandomStream

AUGMENTATIONS = ("none", "flip", "inception", "crop", "crop_flip")
EVAL_TRANSFORMS = ("upstream", "fewshot", "whole")

AREA_RANGE = (0.05, 1.0)
MAX_RESIZED_PIXELS = 2**24
"""Of an image on its way to a centre crop; one of a very long side is cropped before it is resized."""

LOG_ASPECT = float(np.log(4 / 3))
ATTEMPTS = 10
"""Crops drawn before the whole image is taken, as in torchvision's RandomResizedCrop."""

WORDS = 24
"""Random 64-bit words per position: two per attempt, two for the place, one for the flip, rounded up to Philox's
blocks of four."""


@dataclass(frozen=True, slots=True)
class Augmentation:
    """How training views are made."""

    kind: str
    """One of AUGMENTATIONS."""
    randaugment_layers: int = 0
    """Operations of RandAugment; 0 for none."""
    randaugment_magnitude: float = 0.0
    crop_from: int = 0
    """Pixels a side of the square that `crop` and `crop_flip` crop from; 0 for the others."""

    def draw(self, seed: int, first_position: int, count: int) -> NDArray[np.float64]:
        """The random numbers, one row each, of `count` consecutive positions."""
        drawn = draw_uniform(seed, first_position, count)
        if not self.randaugment_layers:
            return drawn
        num_words = self.randaugment_layers * WORDS_PER_LAYER
        return np.hstack([drawn, draw_uniform(seed, first_position, count, num_words, RandomStream.RANDAUGMENT)])

    def crop(self, uniform: Sequence[float], height: int, width: int) -> Box:
        """The pixels of an image of this size that a view is made of; a row of `draw` decides."""
        return inception_box(uniform, height, width) if self.kind == "inception" else Box(0, 0, height, width)

    def view(self, pixels: Pixels, uniform: Sequence[float], size: int) -> torch.Tensor:
        """The view that a training step sees, uint8 (3, size, size), of an image's `crop`."""
        view = self._resized(pixels, uniform, size)
        return randaugment(view, uniform[WORDS:], self.randaugment_magnitude) if self.randaugment_layers else view

    def _resized(self, pixels: Pixels, uniform: Sequence[float], size: int) -> torch.Tensor:
        if self.kind in ("crop", "crop_flip"):
            assert self.crop_from >= size, (self.crop_from, size)
            square = resize(pixels, self.crop_from, self.crop_from)
            top, left = (int(uniform[2 * ATTEMPTS + axis] * (self.crop_from - size + 1)) for axis in (0, 1))
            view = square[:, top : top + size, left : left + size]
            is_flipped = self.kind == "crop_flip"
        else:
            view = resize(pixels, size, size)
            is_flipped = self.kind != "none"
        return view.flip(-1) if is_flipped and uniform[2 * ATTEMPTS + 2] < 0.5 else view


def draw_uniform(
    seed: int, first_position: int, count: int, num_words: int = WORDS, stream: RandomStream = RandomStream.AUGMENTATION
) -> NDArray[np.float64]:
    """Uniform numbers in [0, 1), (count, num_words), for `count` consecutive positions; Philox makes four at once."""
    assert num_words % 4 == 0, num_words
    philox = np.random.Philox(np.random.SeedSequence([seed, stream]))
    philox.advance(first_position * (num_words // 4))
    words = philox.random_raw(count * num_words).reshape(count, num_words)
    return (words >> np.uint64(11)).astype(np.float64) * 2.0**-53


def inception_box(uniform: Sequence[float], height: int, width: int) -> Box:
    """The first of ten drawn crops that fits, else the whole image."""
    low, high = AREA_RANGE
    crop_height, crop_width = height, width
    for area_draw, aspect_draw in zip(uniform[:ATTEMPTS], uniform[ATTEMPTS : 2 * ATTEMPTS], strict=True):
        area = height * width * (low + (high - low) * area_draw)
        aspect = math.exp(LOG_ASPECT * (2 * aspect_draw - 1))
        tall, wide = round(math.sqrt(area / aspect)), round(math.sqrt(area * aspect))
        if 1 <= tall <= height and 1 <= wide <= width:
            crop_height, crop_width = tall, wide
            break
    top = int(uniform[2 * ATTEMPTS] * (height - crop_height + 1))
    left = int(uniform[2 * ATTEMPTS + 1] * (width - crop_width + 1))
    return Box(top, left, crop_height, crop_width)


def training_view(image: Pixels, uniform: Sequence[float], kind: str, size: int, crop_from: int = 0) -> torch.Tensor:
    """The crop of a whole image, resized and maybe flipped, uint8 (3, size, size); `uniform` (WORDS,) decides."""
    augmentation = Augmentation(kind, crop_from=crop_from)
    top, left, height, width = augmentation.crop(uniform, *image.shape[:2])
    return augmentation.view(image[top : top + height, left : left + width], uniform, size)


def evaluate_view(image: Pixels, kind: str, size: int) -> torch.Tensor:
    """The view of an image that an evaluation sees, uint8 (3, size, size)."""
    if kind == "whole":
        return resize(image, size, size)
    target = round(size * 8 / 7)
    height, width = image.shape[:2]
    if kind == "fewshot":
        view = resize(image, target, target)
    else:
        scale = target / min(height, width)
        if height * width * scale**2 > MAX_RESIZED_PIXELS:
            image = _crop_long_side(image, math.ceil(target / scale))
            height, width = image.shape[:2]
        view = resize(image, round(height * scale), round(width * scale))
    top, left = (view.shape[1] - size) // 2, (view.shape[2] - size) // 2
    return view[:, top : top + size, left : left + size]


def _crop_long_side(image: Pixels, needed: int) -> Pixels:
    """The middle of an image's longer side: `needed` pixels and a few more on either side, for the resizing filter."""
    axis = int(np.argmax(image.shape[:2]))
    length = image.shape[axis]
    margin = max(0, (length - needed) // 2 - 2)
    keep = slice(margin, length - margin)
    return image[keep] if axis == 0 else image[:, keep]


def resize(image: Pixels, height: int, width: int) -> torch.Tensor:
    """Antialiased bilinear on uint8, as Pillow does it; (3, height, width), channels last in memory."""
    # The batch axis comes first, because only then do the strides say "channels last", and the result keeps them.
    pixels = torch.from_numpy(np.ascontiguousarray(image)).unsqueeze(0).permute(0, 3, 1, 2)
    if image.shape[:2] == (height, width):
        return pixels[0]
    return functional.interpolate(pixels, (height, width), mode="bilinear", antialias=True)[0]
