"""The permutations are permutations, keep what their name says, and depend on their arguments alone."""

import numpy as np
import pytest
import torch

from scaling.data.select.permute import permute_pixels, pixel_permutation
from scaling.errors import UserError

SIZE, PATCH = 12, 4
KINDS = ("none", "patches_and_pixels", "global")


def patches_of(image: np.ndarray) -> np.ndarray:
    """(patches, pixels) of an (H, W) image."""
    blocks = [np.hsplit(row, SIZE // PATCH) for row in np.vsplit(image, SIZE // PATCH)]
    return np.array([block.ravel() for row in blocks for block in row])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", [0, 1, 7])
def test_every_pixel_is_kept_once(kind: str, seed: int) -> None:
    permutation = pixel_permutation(SIZE, PATCH, seed, kind)
    assert sorted(permutation.tolist()) == list(range(SIZE**2))
    assert np.array_equal(permutation, pixel_permutation(SIZE, PATCH, seed, kind))


def test_none_changes_nothing() -> None:
    image = np.random.default_rng(0).random((3, SIZE, SIZE))
    assert np.array_equal(permute_pixels(image, pixel_permutation(SIZE, PATCH, 5, "none")), image)


@pytest.mark.parametrize("seed", [0, 1, 7])
def test_patches_and_pixels_moves_whole_patches_and_shuffles_all_alike(seed: int) -> None:
    image = np.arange(SIZE**2).reshape(SIZE, SIZE)
    shuffled = permute_pixels(image, pixel_permutation(SIZE, PATCH, seed, "patches_and_pixels"))
    old, new = patches_of(image), patches_of(shuffled)
    owners = [int(np.flatnonzero((np.sort(old) == np.sort(patch)).all(1)).item()) for patch in new]
    assert sorted(owners) == list(range(len(old))) and owners != sorted(owners)
    orders = {tuple(np.searchsorted(old[owner], patch)) for owner, patch in zip(owners, new, strict=True)}
    assert len(orders) == 1 and orders != {tuple(range(PATCH**2))}


def test_global_breaks_patches_up() -> None:
    image = np.arange(SIZE**2).reshape(SIZE, SIZE)
    shuffled = permute_pixels(image, pixel_permutation(SIZE, PATCH, 0, "global"))
    old = {frozenset(patch) for patch in patches_of(image).tolist()}
    assert not old & {frozenset(patch) for patch in patches_of(shuffled).tolist()}


@pytest.mark.parametrize("kind", ["patches_and_pixels", "global"])
def test_seeds_differ(kind: str) -> None:
    assert not np.array_equal(pixel_permutation(SIZE, PATCH, 0, kind), pixel_permutation(SIZE, PATCH, 1, kind))


@pytest.mark.parametrize("kind", KINDS)
def test_tensors_and_arrays_are_permuted_alike(kind: str) -> None:
    images = np.random.default_rng(0).random((2, 3, SIZE, SIZE))
    permutation = pixel_permutation(SIZE, PATCH, 0, kind)
    tensors = permute_pixels(torch.from_numpy(images), torch.from_numpy(permutation))
    assert np.array_equal(tensors.numpy(), permute_pixels(images, permutation))
    assert np.array_equal(permute_pixels(images[0, 0], permutation), permute_pixels(images, permutation)[0, 0])


def test_refusals() -> None:
    with pytest.raises(UserError, match=r"patch size 5 .* must divide the image size 12"):
        pixel_permutation(SIZE, 5, 0, "patches_and_pixels")
    with pytest.raises(UserError, match=r"'globel'.*'global'"):
        pixel_permutation(SIZE, PATCH, 0, "globel")
