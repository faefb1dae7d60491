"""What happens to pixels between decoding and the model: training crops, evaluation crops.

Random draws are a function of (seed, position) alone: a counter-based generator (Philox) is advanced to the
position, so neither workers nor batches nor a restart can change what an image looks like at a step.

    inception   crop of 5-100 % of the area, aspect ratio 3/4 to 4/3, resized bilinearly, random flip (Mixer,
                Section 3, "Pre-training"; ranges from big_vision's `inception_crop`)
    flip        random flip only; the image is resized to the input size
    none        resized to the input size
    upstream    short side to 8/7 of the input size, centre crop (256 -> 224 in the papers)
    fewshot     both sides to 8/7 of the input size, aspect ratio not kept, centre crop (big_vision's few-shot)
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]

AUGMENTATIONS = ("none", "flip", "inception")
EVAL_TRANSFORMS = ("upstream", "fewshot")

AREA_RANGE = (0.05, 1.0)
LOG_ASPECT = float(np.log(4 / 3))
ATTEMPTS = 10
"""Crops drawn before the whole image is taken, as in torchvision's RandomResizedCrop."""

WORDS = 24
"""Random 64-bit words per position: two per attempt, two for the place, one for the flip, rounded up to Philox's
blocks of four."""

AUGMENT_STREAM = 4
"""Keeps these draws apart from every other use of the same seed."""


def draw_uniform(seed: int, first_position: int, count: int) -> NDArray[np.float64]:
    """Uniform numbers in [0, 1), (count, WORDS), for `count` consecutive positions."""
    philox = np.random.Philox(np.random.SeedSequence([seed, AUGMENT_STREAM]))
    philox.advance(first_position * (WORDS // 4))
    words = philox.random_raw(count * WORDS).reshape(count, WORDS)
    return (words >> np.uint64(11)) * 2.0**-53


def inception_boxes(
    uniform: NDArray[np.float64], heights: NDArray[np.int64], widths: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Crop boxes (n, 4) as top, left, height, width: the first drawn crop that fits, else the whole image."""
    low, high = AREA_RANGE
    area = (heights * widths)[:, None] * (low + (high - low) * uniform[:, :ATTEMPTS])
    aspect = np.exp(LOG_ASPECT * (2 * uniform[:, ATTEMPTS : 2 * ATTEMPTS] - 1))
    crop_width = np.rint(np.sqrt(area * aspect)).astype(np.int64)
    crop_height = np.rint(np.sqrt(area / aspect)).astype(np.int64)
    fits = (crop_width >= 1) & (crop_width <= widths[:, None]) & (crop_height >= 1) & (crop_height <= heights[:, None])
    chosen = np.argmax(fits, axis=1)
    rows = np.arange(len(uniform))
    any_fits = fits[rows, chosen]
    crop_height = np.where(any_fits, crop_height[rows, chosen], heights)
    crop_width = np.where(any_fits, crop_width[rows, chosen], widths)
    top = (uniform[:, 2 * ATTEMPTS] * (heights - crop_height + 1)).astype(np.int64)
    left = (uniform[:, 2 * ATTEMPTS + 1] * (widths - crop_width + 1)).astype(np.int64)
    return np.stack([top, left, crop_height, crop_width], axis=1)


def augment(images: list[Pixels], uniform: NDArray[np.float64], kind: str, size: int, out: Pixels) -> None:
    """Write the training view of each image into `out` (n, size, size, 3); `uniform` (n, WORDS) decides."""
    heights = np.array([image.shape[0] for image in images])
    widths = np.array([image.shape[1] for image in images])
    if kind == "inception":
        boxes = inception_boxes(uniform, heights, widths)
    else:
        boxes = np.stack([0 * heights, 0 * widths, heights, widths], axis=1)
    flips = uniform[:, 2 * ATTEMPTS + 2] < 0.5 if kind != "none" else np.zeros(len(images), dtype=bool)
    for row, (image, flip) in enumerate(zip(images, flips, strict=True)):
        top, left, height, width = boxes[row]
        view = resize(image[top : top + height, left : left + width], size, size)
        out[row] = view[:, ::-1] if flip else view


def evaluate_view(image: Pixels, kind: str, size: int) -> Pixels:
    """The view (size, size, 3) of an image that an evaluation sees."""
    target = round(size * 8 / 7)
    height, width = image.shape[:2]
    if kind == "fewshot":
        image = resize(image, target, target)
    else:
        scale = target / min(height, width)
        image = resize(image, round(height * scale), round(width * scale))
    top, left = (image.shape[0] - size) // 2, (image.shape[1] - size) // 2
    return image[top : top + size, left : left + size]


def resize(image: Pixels, height: int, width: int) -> Pixels:
    """Antialiased bilinear, as Pillow does it; the image itself when it has the size already."""
    if image.shape[:2] == (height, width):
        return image
    picture = Image.fromarray(np.ascontiguousarray(image))
    return np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR))
