"""Fixed permutations of an image's pixels, for the study of inductive biases (Mixer, arXiv 2105.01601, section 3.4).

One permutation serves all images of a run, in training and in evaluation; it is a pure function of its
arguments. `patches_and_pixels` shuffles the order of the patches and, by one permutation shared by all patches,
the pixels inside each: Mixer with that patch size is invariant to it. `global` shuffles all pixels at once.
Colours of a pixel stay together. NumPy only; the permutation works on arrays of NumPy and torch alike.
"""

from typing import Any, Protocol, TypeVar

import numpy as np

from scaling.errors import UserError, did_you_mean

PERMUTATIONS = ("none", "patches_and_pixels", "global")

Images = TypeVar("Images", bound=Any)


class PermutedInput(Protocol):
    """What a run plan says about the pixels of its images."""

    @property
    def permute(self) -> str:
        """One of PERMUTATIONS."""

    @property
    def patch_size(self) -> int:
        """Pixels; 0 unless patches are permuted."""

    @property
    def seed(self) -> int:
        """Draws the permutation."""


def pixel_permutation(image_size: int, patch_size: int, seed: int, kind: str) -> np.ndarray:
    """(image_size^2,) int64: new pixel i, counted row by row, is old pixel `permutation[i]`.

    `patch_size` in pixels must divide `image_size` for `patches_and_pixels`; the other kinds ignore it.
    """
    if kind not in PERMUTATIONS:
        raise UserError(f"permute = {kind!r} is not a kind of permutation; {did_you_mean(kind, PERMUTATIONS)}")
    num_pixels = image_size**2
    if kind == "none":
        return np.arange(num_pixels)
    generator = np.random.default_rng(seed)
    if kind == "global":
        return generator.permutation(num_pixels)
    if patch_size < 1 or image_size % patch_size:
        raise UserError(
            f"patch size {patch_size} for permute = {kind!r} must divide the image size {image_size}; "
            "take the patch size of the study's Mixer"
        )
    side = image_size // patch_size
    patch_order = generator.permutation(side**2)
    pixel_order = generator.permutation(patch_size**2)
    by_patch = patch_order_of_pixels(image_size, patch_size)
    permutation = np.empty(num_pixels, dtype=np.int64)
    permutation[by_patch.ravel()] = by_patch[patch_order][:, pixel_order].ravel()
    return permutation


def planned_permutation(plan: PermutedInput, image_size: int) -> np.ndarray | None:
    """The permutation of a run's images of `image_size` pixels a side; None where they are not rearranged."""
    if plan.permute == "none":
        return None
    return pixel_permutation(image_size, plan.patch_size, plan.seed, plan.permute)


def patch_order_of_pixels(image_size: int, patch_size: int) -> np.ndarray:
    """(patches, patch_size^2): the row-by-row index of every pixel, patch by patch."""
    side = image_size // patch_size
    pixels = np.arange(image_size**2).reshape(side, patch_size, side, patch_size)
    return pixels.transpose(0, 2, 1, 3).reshape(side**2, patch_size**2)


def permute_pixels(images: Images, permutation: Any) -> Images:
    """`images` (…, H, W), an array of NumPy or torch, with its pixels rearranged by `permutation` (H * W,).

    For tensors on a GPU give the permutation as a tensor on the same device.
    """
    return images.reshape(*images.shape[:-2], -1)[..., permutation].reshape(images.shape)
