"""The linear probe itself: standardise, ridge regression to targets of -1 and 1, arg-max over classes.

Features are standardised per dimension by the support set, and a constant feature of 100 is the bias, as in
big_vision's `evaluators/fewshot_lsr.py`. Standardisation is folded into the weights, so that a test set of any size is
scored in bounded memory.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Features = NDArray[np.floating]
Labels = NDArray[np.int64]
Matrix = NDArray[np.float64]

BIAS_FEATURE = 100.0
"""So large that the penalty barely touches its weight."""

STD_FLOOR = 1e-5

SCORED_AT_ONCE = 4096
"""Test images whose scores are held in memory at a time."""

MAX_FOLDS = 5


@dataclass(frozen=True, slots=True)
class LinearProbe:
    """Scores of raw features: `features @ weights + bias`."""

    weights: Matrix
    """(D, K)"""
    bias: Matrix
    """(K,)"""

    def accuracy(self, features: Features, labels: Labels) -> float:
        """Top-1 on features (N, D) with labels (N,)."""
        hits = 0
        for start in range(0, len(labels), SCORED_AT_ONCE):
            part = slice(start, start + SCORED_AT_ONCE)
            scores = features[part].astype(np.float64) @ self.weights + self.bias
            hits += int(np.count_nonzero(scores.argmax(axis=1) == labels[part]))
        return hits / len(labels)


def fit_probe(features: Features, labels: Labels, num_classes: int, l2: float) -> LinearProbe:
    """The probe fitted to support features (N, D) and their labels (N,) with penalty `l2`, in float64."""
    mean, std = _statistics(features)
    inputs = _standardised(features, mean, std)
    weights = ridge(inputs, _targets(labels, num_classes), l2)
    scaled = weights[:-1] / std[:, None]
    return LinearProbe(scaled, BIAS_FEATURE * weights[-1] - mean @ scaled)


def ridge(features: Matrix, targets: Matrix, l2: float) -> Matrix:
    """argmin over W of |X W - Y|^2 + l2 |W|^2, solved in the smaller of feature and sample space."""
    num_samples, num_features = features.shape
    if num_samples >= num_features:
        gram = features.T @ features + l2 * np.eye(num_features)
        return np.asarray(np.linalg.solve(gram, features.T @ targets), np.float64)
    gram = features @ features.T + l2 * np.eye(num_samples)
    return features.T @ np.linalg.solve(gram, targets)


def held_out_accuracies(
    features: Features, labels: Labels, num_classes: int, penalties: Sequence[float]
) -> NDArray[np.float64]:
    """Mean top-1 of every penalty (len(penalties),) on support images held out in turn.

    The images of a class are dealt to as many folds as the smallest class has images, five at most; a class needs two
    or more. One eigen-decomposition per fold serves all penalties.
    """
    rank = _rank_in_class(labels)
    num_folds = min(MAX_FOLDS, int(np.bincount(labels, minlength=num_classes).min()))
    accuracies = np.zeros((num_folds, len(penalties)))
    for fold in range(num_folds):
        held_out = rank % num_folds == fold
        mean, std = _statistics(features[~held_out])
        inputs = _standardised(features[~held_out], mean, std)
        left, eigenvalues, right = _decomposed(
            inputs, _targets(labels[~held_out], num_classes), _standardised(features[held_out], mean, std)
        )
        for position, l2 in enumerate(penalties):
            scores = (left / (eigenvalues + l2)) @ right
            accuracies[fold, position] = np.mean(scores.argmax(axis=1) == labels[held_out])
    return accuracies.mean(axis=0)


def _decomposed(inputs: Matrix, targets: Matrix, held_out: Matrix) -> tuple[Matrix, Matrix, Matrix]:
    """`left`, `eigenvalues`, `right` with held-out scores `(left / (eigenvalues + l2)) @ right` for every penalty."""
    if len(inputs) >= inputs.shape[1]:
        eigenvalues, vectors = np.linalg.eigh(inputs.T @ inputs)
        return held_out @ vectors, eigenvalues, vectors.T @ (inputs.T @ targets)
    eigenvalues, vectors = np.linalg.eigh(inputs @ inputs.T)
    return (held_out @ inputs.T) @ vectors, eigenvalues, vectors.T @ targets


def _rank_in_class(labels: Labels) -> NDArray[np.int64]:
    """For each image, how many images of its class come before it."""
    order = np.argsort(labels, kind="stable")
    counts = np.bincount(labels)
    rank = np.empty_like(labels)
    rank[order] = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)
    return rank


def _statistics(features: Features) -> tuple[Matrix, Matrix]:
    exact = features.astype(np.float64)
    return exact.mean(axis=0), exact.std(axis=0) + STD_FLOOR


def _standardised(features: Features, mean: Matrix, std: Matrix) -> Matrix:
    """(N, D + 1), the bias feature last."""
    scaled = (features.astype(np.float64) - mean) / std
    return np.concatenate([scaled, np.full((len(scaled), 1), BIAS_FEATURE)], axis=1)


def _targets(labels: Labels, num_classes: int) -> Matrix:
    return 2.0 * (labels[:, None] == np.arange(num_classes)) - 1.0
