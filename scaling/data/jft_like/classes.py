"""The classes: a tree over combinations of visual factors, and combinations that are kept unseen.

A leaf class is one combination of shape family, texture family, palette and layout; its name is the path in
the tree, such as `radial.star.striped.red-cyan.pair`. Above it stand three levels of hypernyms: kind of shape, shape,
and shape with texture. Unseen classes are combinations that no upstream class uses, made of factor values
that upstream classes do use, so that features can transfer where memorised classes cannot.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scaling.data.jft_like.draws import Draws
from scaling.data.jft_like.layouts import LAYOUTS
from scaling.data.jft_like.palettes import PALETTES
from scaling.data.jft_like.shapes import SHAPES
from scaling.data.jft_like.textures import TEXTURES

SHAPE_PATHS = tuple(f"{kind}.{shape}" for kind, shapes in SHAPES.items() for shape in shapes)
NUM_FACTOR_VALUES = (len(SHAPE_PATHS), len(TEXTURES), len(PALETTES), len(LAYOUTS))
NUM_COMBINATIONS = int(np.prod(NUM_FACTOR_VALUES))
NUM_HYPERNYM_LEVELS = 3
LEAVES_PER_HYPERNYM = 2
"""Leaves that share shape and texture while there are few; with more leaves all textures come into use first."""

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


def _choose_combinations(num_leaves: int, num_unseen: int, seed: int) -> tuple[Factors, Factors]:
    num_shapes, num_textures, num_palettes, num_layouts = NUM_FACTOR_VALUES
    grid = np.stack(np.unravel_index(np.arange(NUM_COMBINATIONS), NUM_FACTOR_VALUES), axis=1).astype(np.int64)
    draws = Draws.of(seed, "class combinations", np.arange(num_shapes))
    shape_order = np.argsort(draws.uniform("shape"), kind="stable")
    texture_order = np.argsort(draws.uniform("texture", count=num_textures), axis=1, kind="stable")
    coats_per_texture = num_palettes * num_layouts
    coats = Draws.of(seed, "class coats", np.arange(num_shapes * num_textures)).uniform("coat", count=coats_per_texture)
    coat_order = np.argsort(coats, axis=1, kind="stable").reshape(num_shapes, num_textures, coats_per_texture)

    leaf = np.arange(num_leaves)
    shape, turn = shape_order[leaf % num_shapes], leaf // num_shapes
    used_textures = min(num_textures, -(-num_leaves // (num_shapes * LEAVES_PER_HYPERNYM)))
    texture = texture_order[shape, turn % used_textures]
    coat = coat_order[shape, texture, turn // used_textures]
    leaves = np.stack([shape, texture, coat // num_layouts, coat % num_layouts], axis=1)

    taken = np.ravel_multi_index(tuple(leaves.T), NUM_FACTOR_VALUES)
    known = np.logical_and.reduce([np.isin(grid[:, factor], leaves[:, factor]) for factor in range(4)])
    known[taken] = False
    order = np.argsort(Draws.of(seed, "unseen", np.arange(NUM_COMBINATIONS)).uniform("order"), kind="stable")
    return leaves, _balanced_choice(grid[order[known[order]]], num_unseen)


def _balanced_choice(candidates: Factors, count: int) -> Factors:
    """The first candidates, in order, that keep every factor's values about equally used; shapes come first."""
    used = [np.zeros(size, np.int64) for size in NUM_FACTOR_VALUES]
    free = np.ones(len(candidates), np.bool_)
    chosen = []
    for _ in range(count):
        crowding = sum(used[factor][candidates[:, factor]] * weight for factor, weight in enumerate((4, 1, 1, 1)))
        best = int(np.argmin(np.where(free, crowding, np.iinfo(np.int64).max)))
        free[best] = False
        for factor, value in enumerate(candidates[best]):
            used[factor][value] += 1
        chosen.append(candidates[best])
    return np.array(chosen)
