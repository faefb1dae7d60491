"""What is in an image and what its labels say.

JFT-300M's labels came from web signals: 375 million labels on 300 million images (1.26 an image), in a
hierarchy, about 20 % of them wrong (BiT, section 3.1). Here an image shows an object of a leaf class, drawn from
a long-tailed distribution, and sometimes a smaller object of a second class; its labels are the leaves shown,
sometimes joined by a hypernym of the main one; then each label is, with the noise probability, replaced by
the label of an unrelated image. Wrong labels thus follow the same long tail and say nothing about the pixels.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scaling.jft_like.classes import NUM_HYPERNYM_LEVELS, Factors, Taxonomy
from scaling.jft_like.draws import Draws

HYPERNYM_SHARE = 0.5
"""Share of the labels beyond the first that name a hypernym; the rest name a second object."""
UNRELATED_ATTEMPTS = 4
"""Draws of an unrelated label before an image keeps its true one; four miss at most 1 % of the wrong labels."""


@dataclass(frozen=True)
class Contents:
    """Of a batch of images: factors of the main object (n, 4), of the second one (n, 4), and whether it exists (n,)."""

    main: Factors
    second: Factors
    has_second: NDArray[np.bool_]


@dataclass(frozen=True)
class LabelModel:
    """Draws contents and labels of upstream images; every method is a function of the draws alone."""

    taxonomy: Taxonomy
    labels_per_image: float
    noise: float

    def leaves(self, draws: Draws) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
        """Leaf class of the main object, of the second object, and whether the second exists: each (n,)."""
        extra = self.labels_per_image - 1.0
        has_second = draws.happens("has second", extra * (1.0 - HYPERNYM_SHARE))
        return self._leaf(draws, "main leaf"), self._leaf(draws, "second leaf"), has_second

    def contents(self, draws: Draws) -> Contents:
        """The factors of what the images show."""
        main, second, has_second = self.leaves(draws)
        factors = self.taxonomy.leaf_factors
        return Contents(factors[main], factors[second], has_second)

    def true_labels(self, draws: Draws) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Labels (n, 3) of main leaf, second leaf and hypernym, and which of them are given."""
        main, second, has_second = self.leaves(draws)
        has_hypernym = draws.happens("has hypernym", (self.labels_per_image - 1.0) * HYPERNYM_SHARE)
        level = draws.integers("hypernym level", NUM_HYPERNYM_LEVELS)
        taxonomy = self.taxonomy
        labels = np.stack(
            [taxonomy.leaf_label[main], taxonomy.leaf_label[second], taxonomy.hypernym_labels[main, level]], axis=1
        )
        return labels, np.stack([np.ones_like(has_second), has_second, has_hypernym], axis=1)

    def given_labels(self, draws: Draws) -> list[list[int]]:
        """The labels as published, noise included: sorted, without repetition."""
        labels, given = self.true_labels(draws)
        published = labels.copy()
        for slot in range(labels.shape[1]):
            wrong = draws.happens(f"wrong {slot}", self.noise)
            unrelated = self._unrelated_labels(draws.child(f"unrelated {slot}"), labels, given)
            published[:, slot] = np.where(wrong, unrelated, labels[:, slot])
        return [sorted(set(row[mask].tolist())) for row, mask in zip(published, given, strict=True)]

    def _unrelated_labels(self, draws: Draws, labels: NDArray[np.int64], given: NDArray[np.bool_]) -> NDArray[np.int64]:
        """One label of another image for each image, (n,), that is not true of the image itself."""
        unrelated = np.full(len(labels), -1)
        for attempt in range(UNRELATED_ATTEMPTS):
            again = draws.child(f"attempt {attempt}")
            other, other_given = self.true_labels(again)
            choice = np.where(other_given, again.uniform("choice", count=other.shape[1]), -1.0)
            candidate = other[np.arange(len(other)), np.argmax(choice, axis=1)]
            is_true = ((labels == candidate[:, None]) & given).any(axis=1)
            unrelated = np.where((unrelated < 0) & ~is_true, candidate, unrelated)
        return np.where(unrelated < 0, labels[:, 0], unrelated)

    def _leaf(self, draws: Draws, name: str) -> NDArray[np.int64]:
        cumulative = np.cumsum(self.taxonomy.leaf_frequency)
        leaf = np.searchsorted(cumulative, draws.uniform(name), side="right")
        return np.minimum(leaf, len(cumulative) - 1)


def balanced_labels(seed: int, stream: str, index: NDArray[np.int64], num_classes: int) -> NDArray[np.int64]:
    """Single labels in random order such that every run of `num_classes` aligned samples holds each class once."""
    block = index // num_classes
    blocks, row = np.unique(block, return_inverse=True)
    order = Draws.of(seed, f"{stream} balance", blocks).uniform("order", count=num_classes)
    return np.argsort(order, axis=1, kind="stable")[row, index - block * num_classes].astype(np.int64)
