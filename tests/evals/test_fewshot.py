"""The linear probe against an independent solution by eigen-decomposition, and its support draw."""

import numpy as np
import pytest
from numpy.typing import NDArray

from scaling.errors import UserError
from scaling.evals.fewshot import choose_support, few_shot_accuracy, ridge


def ridge_by_eigen_decomposition(x: NDArray[np.float64], y: NDArray[np.float64], l2: float) -> NDArray[np.float64]:
    """The reference's way: one eigen-decomposition of the smaller Gram matrix serves any penalty."""
    if len(x) >= x.shape[1]:
        values, vectors = np.linalg.eigh(x.T @ x)
        return np.asarray(vectors @ ((vectors.T @ (x.T @ y)) / (values + l2)[:, None]))
    values, vectors = np.linalg.eigh(x @ x.T)
    return np.asarray(x.T @ (vectors @ ((vectors.T @ y) / (values + l2)[:, None])))


@pytest.mark.parametrize(("num_samples", "num_features"), [(50, 20), (20, 50), (30, 30)])
def test_ridge_equals_the_eigen_decomposition(num_samples: int, num_features: int) -> None:
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(num_samples, num_features)), generator.normal(size=(num_samples, 3))
    for l2 in (1e-3, 1.0, 1024.0):
        assert np.allclose(ridge(x, y, l2), ridge_by_eigen_decomposition(x, y, l2), rtol=1e-8, atol=1e-10)


def written_out(support, test, shots: int, seed: int, num_classes: int) -> float:
    """The nine points of the protocol, one after the other, with loops instead of shortcuts."""
    generator = np.random.default_rng(seed)
    rows = []
    for number in range(num_classes):
        members = np.where(support[1] == number)[0]
        rows.extend(generator.permutation(members)[:shots])
    x, labels = support[0][rows], support[1][rows]
    mu, sd = x.mean(0), np.sqrt(((x - x.mean(0)) ** 2).mean(0)) + 1e-5
    x = np.c_[(x - mu) / sd, np.full(len(x), 100.0)]
    y = np.where(labels[:, None] == np.arange(num_classes)[None], 1.0, -1.0)
    weights = ridge_by_eigen_decomposition(x, y, 2.0**10)
    t = np.c_[(test[0] - mu) / sd, np.full(len(test[0]), 100.0)]
    return float(np.mean([int(np.argmax(row @ weights)) == label for row, label in zip(t, test[1], strict=True)]))


@pytest.mark.parametrize("num_features", [8, 200])
def test_few_shot_equals_the_protocol_written_out(num_features: int) -> None:
    generator = np.random.default_rng(1)
    centres = generator.normal(0, 1.0, (6, num_features))
    labels, test_labels = np.repeat(np.arange(6), 20), np.repeat(np.arange(6), 40)
    support = (centres[labels] + generator.normal(0, num_features**0.5, (120, num_features)), labels)
    test = (centres[test_labels] + generator.normal(0, num_features**0.5, (240, num_features)), test_labels)
    for seed in (0, 1, 2):
        score = few_shot_accuracy(support, test, shots=5, seed=seed, num_classes=6, l2=1024.0)
        assert score == written_out(support, test, 5, seed, 6)
        assert 1 / 6 < score < 1


def test_support_has_the_shots_of_every_class_and_differs_by_seed() -> None:
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(5), 30))
    draws = [choose_support(labels, shots=4, seed=seed, num_classes=5) for seed in (0, 0, 1)]
    assert np.array_equal(np.bincount(labels[draws[0]]), [4] * 5)
    assert len(set(draws[0].tolist())) == 20
    assert np.array_equal(draws[0], draws[1])
    assert not np.array_equal(draws[0], draws[2])


def test_a_support_pool_too_small_is_refused() -> None:
    with pytest.raises(UserError, match="smallest class has 2"):
        choose_support(np.array([0, 0, 0, 1, 1]), shots=3, seed=0, num_classes=2)
