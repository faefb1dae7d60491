"""The classes: a tree over combinations of visual factors, and combinations that are kept unseen.

A leaf class is one combination of shape family, texture family, palette and layout; its name is the path in
the tree, such as `radial.star.striped.red-cyan.pair`. Above it stand three levels of hypernyms: kind of shape, shape,
and shape with texture. Unseen classes are combinations that no upstream class uses, made of factor values
that upstream classes do use, so that features can transfer where memorised classes cannot.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scaling.jft_like.drawing.layouts import LAYOUTS
from scaling.jft_like.drawing.palettes import PALETTES
from scaling.jft_like.drawing.shapes import SHAPES_BY_PATH
from scaling.jft_like.drawing.textures import TEXTURES
from scaling.jft_like.draws import Draws

SHAPE_PATHS = tuple(SHAPES_BY_PATH)
NUM_FACTOR_VALUES = (len(SHAPE_PATHS), len(TEXTURES), len(PALETTES), len(LAYOUTS))
LEAVES_PER_VALUE = (6, 8, 8, 12)
"""Leaves that share a shape, a texture, a palette, a layout, until all values are in use: with few classes
few values are used, so that each is seen in several combinations and can be told from the others it comes with."""
FEWEST_VALUES = (4, 3, 3, 3)
NUM_COMBINATIONS = int(np.prod(NUM_FACTOR_VALUES))
NUM_HYPERNYM_LEVELS = 3
LEAVES_PER_HYPERNYM = 2
"""Leaves that share shape and texture, about, while not all textures of a shape are in use."""

Factors = NDArray[np.int64]
"""Indices of shape, texture, palette and layout: shape (classes, 4)."""


@dataclass(frozen=True)
class Taxonomy:
    """`names` of all upstream classes, leaves and hypernyms; the label of a class is its position.

    `leaf_label` (leaves,) and `hypernym_labels` (leaves, 3), outermost first, index `names`;
    `leaf_frequency` (leaves,) sums to one. `unseen_names` belong to `unseen_factors` alone.
    """

    names: tuple[str, ...]
    leaf_factors: Factors
    leaf_label: NDArray[np.int64]
    hypernym_labels: NDArray[np.int64]
    leaf_frequency: NDArray[np.float64]
    unseen_names: tuple[str, ...]
    unseen_factors: Factors


def leaf_path(factors: NDArray[np.int64]) -> tuple[str, str, str, str]:
    """The names from the outermost hypernym down to the leaf for one combination of factors."""
    shape_path = SHAPE_PATHS[factors[0]]
    kind = shape_path.partition(".")[0]
    textured = f"{shape_path}.{tuple(TEXTURES)[factors[1]]}"
    palette = "-".join(PALETTES[factors[2]])
    return kind, shape_path, textured, f"{textured}.{palette}.{tuple(LAYOUTS)[factors[3]]}"


def long_tail(num_classes: int, exponent: float) -> NDArray[np.float64]:
    """Zipf's law: the r-th most frequent class has a share proportional to r**-exponent."""
    weight = np.arange(1, num_classes + 1, dtype=np.float64) ** -exponent
    return weight / weight.sum()


def make_taxonomy(num_leaves: int, num_unseen: int, exponent: float, seed: int) -> Taxonomy:
    """Choose the combinations, order the tree and give each leaf its frequency. A pure function."""
    leaves, unseen = _choose_combinations(num_leaves, num_unseen, seed)
    paths = [leaf_path(row) for row in leaves]
    names = tuple(sorted({name for path in paths for name in path}))
    label = {name: position for position, name in enumerate(names)}
    labels = np.array([[label[name] for name in path] for path in paths], np.int64)
    rank = np.argsort(Draws.of(seed, "class rank", np.arange(num_leaves)).uniform("rank"), kind="stable")
    frequency = np.empty(num_leaves)
    frequency[rank] = long_tail(num_leaves, exponent)
    return Taxonomy(
        names=names,
        leaf_factors=leaves,
        leaf_label=labels[:, -1],
        hypernym_labels=labels[:, :-1],
        leaf_frequency=frequency,
        unseen_names=tuple(leaf_path(row)[-1] for row in unseen),
        unseen_factors=unseen,
    )


def values_in_use(num_leaves: int) -> tuple[int, ...]:
    """How many shapes, textures, palettes and layouts a data set of so many leaf classes uses."""
    return tuple(
        min(size, max(fewest, round(num_leaves / leaves)))
        for size, fewest, leaves in zip(NUM_FACTOR_VALUES, FEWEST_VALUES, LEAVES_PER_VALUE, strict=True)
    )


def _choose_combinations(num_leaves: int, num_unseen: int, seed: int) -> tuple[Factors, Factors]:
    used = values_in_use(num_leaves)
    num_shapes, num_textures = used[:2]
    grid = np.stack(np.unravel_index(np.arange(np.prod(used)), used), axis=1).astype(np.int64)
    grid = grid[_random_order(seed, "combinations", len(grid))]
    textures_per_shape = min(num_textures, -(-num_leaves // (num_shapes * LEAVES_PER_HYPERNYM)))
    texture_rank = np.argsort(
        Draws.of(seed, "coats", np.arange(num_shapes)).uniform("coat", count=num_textures), axis=1
    )
    is_upstream = texture_rank[grid[:, 0], grid[:, 1]] < textures_per_shape
    chosen = _balanced_choice(grid, is_upstream, num_leaves)
    is_free = np.ones(len(grid), np.bool_)
    is_free[chosen] = False
    for factor in range(4):
        is_free &= np.isin(grid[:, factor], grid[chosen, factor])
    return grid[chosen], grid[_balanced_choice(grid, is_free, num_unseen)]


def _random_order(seed: int, stream: str, count: int) -> NDArray[np.intp]:
    return np.argsort(Draws.of(seed, stream, np.arange(count)).uniform("order"), kind="stable")


def _balanced_choice(candidates: Factors, is_free: NDArray[np.bool_], count: int) -> NDArray[np.intp]:
    """Rows of free candidates, the first in order that keep the values of every factor about equally used."""
    times_used = [np.zeros(size, np.int64) for size in NUM_FACTOR_VALUES]
    is_free, chosen = is_free.copy(), np.empty(count, np.intp)
    for position in range(count):
        crowding = sum(times_used[factor][candidates[:, factor]] ** 2 for factor in range(4))
        chosen[position] = np.argmin(np.where(is_free, crowding, np.iinfo(np.int64).max))
        is_free[chosen[position]] = False
        for factor, value in enumerate(candidates[chosen[position]]):
            times_used[factor][value] += 1
    return chosen
