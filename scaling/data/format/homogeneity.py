"""Whether label frequencies differ along the shards by more than chance, so that a prefix of them is no fair sample.

What is compared are pieces: whole shards, or, where there are few of them, equal parts of each in the order of its
samples, since a subset ends inside a shard. Pearson's chi-square of the pieces x classes table, judged against what
placing the same images into the same shards at random gives: mean and variance of the statistic are exact (Haldane
1940, Biometrika 31), so that rare classes and small shards need no merging, and a chi-square of these two moments gives
the p-value (Nass 1959, Biometrika 46). An image counts once, by its first label, because labels of one image are not
independent.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SIGNIFICANCE = 1e-3

MAX_COMPARED_SHARDS = 2000
"""Of a larger data set so many, evenly spaced, are compared."""

MIN_PIECES = 32
"""Shards fewer than these are compared in parts, so that a few large ones in the order of their classes are found."""

NO_LABEL = -1
"""Stands for the label of an image that has none."""

NOTABLE_SPREAD = 1.1
"""Spread above which a difference matters: with millions of images the smallest one is significant."""


@dataclass(frozen=True)
class Homogeneity:
    spread: float
    """Chi-square over its mean under random placement: the variance of class counts between pieces, 1 by chance."""
    p_value: float

    @property
    def is_fair(self) -> bool:
        """Whether a prefix of the shards is a fair sample of the data set."""
        return self.p_value >= SIGNIFICANCE or self.spread < NOTABLE_SPREAD


class PieceCounts:
    """The first labels of one shard's samples, counted over equal pieces of the shard in their order."""

    def __init__(self, num_shards: int, num_samples: int) -> None:
        """Of a shard of `num_samples`, one of `num_shards`."""
        self._num_samples = num_samples
        self.pieces: list[Counter[int]] = [Counter() for _ in range(-(-MIN_PIECES // max(1, num_shards)))]

    def add(self, row: int, labels: Sequence[int]) -> None:
        """Count the sample at this place of the shard."""
        self.pieces[row * len(self.pieces) // self._num_samples][labels[0] if labels else NO_LABEL] += 1


def compare_label_counts(counts_by_piece: Sequence[Mapping[int, int]]) -> Homogeneity | None:
    """Compare pieces by how many of their images bear each label, one label an image; None when nothing can differ."""
    # Imported here because planning reads manifests, which hold the result, and should not wait for SciPy.
    from scipy import stats

    pieces = [counts for counts in counts_by_piece if counts]
    if len(pieces) < 2:
        return None
    totals_by_label: Counter[int] = Counter()
    for counts in pieces:
        totals_by_label.update(counts)
    classes = np.array(sorted(totals_by_label))
    totals = np.array([totals_by_label[label] for label in classes.tolist()])
    sizes = np.array([sum(counts.values()) for counts in pieces], dtype=np.float64)
    num_images = float(sizes.sum())
    if len(classes) < 2 or num_images < 5:
        return None
    sum_of_squares = 0.0
    for counts, size in zip(pieces, sizes, strict=True):
        present = np.fromiter(counts.keys(), np.int64, len(counts))
        numbers = np.fromiter(counts.values(), np.int64, len(counts))
        sum_of_squares += float((numbers**2 / (size * totals[np.searchsorted(classes, present)])).sum())
    statistic = num_images * (sum_of_squares - 1)
    mean, variance = _moments(sizes, totals.astype(np.float64))
    if variance <= 0:
        return None
    return Homogeneity(
        max(0.0, statistic / mean), float(stats.chi2.sf(2 * mean * statistic / variance, 2 * mean**2 / variance))
    )


def _moments(rows: NDArray[np.float64], columns: NDArray[np.float64]) -> tuple[float, float]:
    """Mean and variance of chi-square over all tables with these margins, as random placement draws them.

    Chi-square is n tr(P R Q R') for a random permutation R, with P (and Q) the projection on pieces (classes) less the
    constant; the two terms are the parts of P and Q in the two representations of the symmetric group that vary.
    """
    n = float(rows.sum())

    def parts(margins: NDArray[np.float64]) -> tuple[float, float]:
        count = len(margins)
        return (count - 1) * (n - count) / (n - 1), (n * float((1 / margins).sum()) - count**2) / (n - 2)

    (v_rows, w_rows), (v_columns, w_columns) = parts(rows), parts(columns)
    mean = (len(rows) - 1) * (len(columns) - 1) * n / (n - 1)
    variance = 2 * n / (n - 3) * (v_rows - w_rows) * (v_columns - w_columns) + n**2 / (n - 1) * w_rows * w_columns
    return mean, variance
