"""RandAugment (arXiv 1909.13719): a number of drawn operations, one after the other, all at one magnitude.

Operations, their strengths and the fill value of 128 are those of big_vision's `randaug`, which the Mixer paper's
ImageNet runs use; magnitude 10 is a full scale and larger ones go beyond it. Pixels are Pillow's. As there, each layer
draws one of sixteen operations, always applies it, and a coin decides the direction of the geometric ones. Lengths are
meant for 224 pixels and scale with the image. One difference: Contrast pulls towards the mean grey, as in the paper,
where big_vision's takes the number of pixels divided by 256. The draws come from outside.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from PIL import Image, ImageEnhance, ImageOps

WORDS_PER_LAYER = 4
"""Random numbers of one layer: operation, sign, and the place of a cut-out."""

FULL_SCALE = 10.0

REFERENCE_SIZE = 224
"""Pixels a side for which the lengths below are meant."""

TRANSLATION, CUTOUT = 100.0, 40.0
"""Pixels at full scale: the shift, and half the side of the square that is cut out."""

FILL = (128, 128, 128)


class Draw:
    """Parameters of one layer: strength (1 at full scale), sign, place (0 to 1 each way) and pixels per length."""

    def __init__(self, uniform: Sequence[float], magnitude: float, size: int) -> None:
        self.strength = magnitude / FULL_SCALE
        self.signed = self.strength if uniform[1] < 0.5 else -self.strength
        self.top, self.left = uniform[2], uniform[3]
        self.pixels = size / REFERENCE_SIZE

    @property
    def factor(self) -> float:
        """Of Pillow's enhancements: 0.1 to 1.9 up to full scale; 1 would change nothing."""
        return self.strength * 1.8 + 0.1


def _affine(image: Image.Image, *matrix: float) -> Image.Image:
    """`matrix` maps the centre of a new pixel to where the old one is taken from."""
    return image.transform(image.size, Image.Transform.AFFINE, matrix, Image.Resampling.NEAREST, fillcolor=FILL)


def _solarize_add(image: Image.Image, draw: Draw) -> Image.Image:
    added = min(255, int(draw.strength * 110))
    table = [min(255, value + added) if value < 128 else value for value in range(256)]
    return image.point(table * 3)


def _posterize(image: Image.Image, num_bits: int) -> Image.Image:
    """The highest bits of every value; none at all is black, which Pillow's own refuses."""
    return image.point([value & ~(255 >> num_bits) for value in range(256)] * 3)


def _cut_out(image: Image.Image, draw: Draw) -> Image.Image:
    reach = int(draw.strength * CUTOUT * draw.pixels)
    top, left = int(draw.top * image.height), int(draw.left * image.width)
    result = image.copy()
    result.paste(FILL, (left - reach, top - reach, left + reach, top + reach))
    return result


Operation = Callable[[Image.Image, Draw], Image.Image]

OPERATIONS: dict[str, Operation] = {
    "AutoContrast": lambda image, draw: ImageOps.autocontrast(image),
    "Equalize": lambda image, draw: ImageOps.equalize(image),
    "Invert": lambda image, draw: ImageOps.invert(image),
    "Rotate": lambda image, draw: image.rotate(draw.signed * 30, Image.Resampling.NEAREST, fillcolor=FILL),
    # Strength is the number of bits that stay, so that a larger magnitude changes less, as in big_vision.
    "Posterize": lambda image, draw: _posterize(image, min(8, int(draw.strength * 4))),
    "Solarize": lambda image, draw: ImageOps.solarize(image, int(draw.strength * 256)),
    "Color": lambda image, draw: ImageEnhance.Color(image).enhance(draw.factor),
    "Contrast": lambda image, draw: ImageEnhance.Contrast(image).enhance(draw.factor),
    "Brightness": lambda image, draw: ImageEnhance.Brightness(image).enhance(draw.factor),
    "Sharpness": lambda image, draw: ImageEnhance.Sharpness(image).enhance(draw.factor),
    "ShearX": lambda image, draw: _affine(image, 1, draw.signed * 0.3, 0, 0, 1, 0),
    "ShearY": lambda image, draw: _affine(image, 1, 0, 0, draw.signed * 0.3, 1, 0),
    "TranslateX": lambda image, draw: _affine(image, 1, 0, -draw.signed * TRANSLATION * draw.pixels, 0, 1, 0),
    "TranslateY": lambda image, draw: _affine(image, 1, 0, 0, 0, 1, -draw.signed * TRANSLATION * draw.pixels),
    "Cutout": _cut_out,
    "SolarizeAdd": _solarize_add,
}


def randaugment(view: torch.Tensor, uniform: Sequence[float], magnitude: float) -> torch.Tensor:
    """A square view, uint8 (3, size, size), after one operation for every four of the numbers `uniform` in [0, 1)."""
    image = Image.fromarray(np.ascontiguousarray(view.permute(1, 2, 0).numpy()))
    operations = tuple(OPERATIONS.values())
    for first in range(0, len(uniform), WORDS_PER_LAYER):
        draws = uniform[first : first + WORDS_PER_LAYER]
        image = operations[int(draws[0] * len(operations))](image, Draw(draws, magnitude, image.width))
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)
