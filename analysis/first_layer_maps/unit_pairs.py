"""Order among the units of a layer: each beside its nearest inverse, pairs from low to high frequency.

The paper's Figure 5 shows token-mixing units so, because many come in pairs of opposite phase. Pairs are made
greedily, the most opposite two units first; pure functions of the weights.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class Pairs(NamedTuple):
    """Disjoint pairs of units, low frequencies first; an odd one is left out of `first` and `second`."""

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    cosine: Array
    """Cosine similarity of the two units of each pair; -1 for exact opposites."""
    frequency: Array
    """Mean spatial frequency of the two, cycles per grid side."""


def spatial_frequency(maps: Array) -> Array:
    """(N, …, side, side) -> (N,): mean radial frequency, weighted by power, in cycles per side of the map.

    0 for a constant map, 1 for one full wave across it; 0 also for a map of zeros.
    """
    side = maps.shape[-1]
    cycles = np.fft.fftfreq(side, 1 / side)
    radius = np.hypot(cycles[:, None], cycles[None, :])
    power = np.abs(np.fft.fft2(maps)) ** 2
    axes = tuple(range(1, maps.ndim))
    total = power.sum(axis=axes)
    weighted = (power * radius).sum(axis=axes)
    return np.divide(weighted, total, out=np.zeros_like(total), where=total > 0)


def pair_opposites(maps: Array) -> Pairs:
    """Pair the units of `maps` (N, side, side): of all that are left, the two with the lowest cosine similarity."""
    vectors = maps.reshape(len(maps), -1)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)
    rows, columns = np.triu_indices(len(maps), k=1)
    cosine = (unit @ unit.T)[rows, columns]
    free = np.ones(len(maps), dtype=bool)
    chosen = []
    for index in np.argsort(cosine, kind="stable"):
        if free[rows[index]] and free[columns[index]]:
            free[[rows[index], columns[index]]] = False
            chosen.append(index)
    frequency = spatial_frequency(maps)
    mean = (frequency[rows[chosen]] + frequency[columns[chosen]]) / 2
    order = np.argsort(mean, kind="stable")
    picked = np.array(chosen, dtype=np.int64)[order]
    return Pairs(rows[picked], columns[picked], cosine[picked], mean[order])


def median_cosine_by_chance(maps: Array, seed: int = 0) -> float:
    """Median cosine of pairs made alike from units without structure: the same weights, shuffled inside each unit."""
    shuffled = np.random.default_rng(seed).permuted(maps.reshape(len(maps), -1), axis=1)
    return float(np.median(pair_opposites(shuffled.reshape(maps.shape)).cosine))
