"""The uses of a run's seed, each with a number of its own, so that no two of them draw the same random numbers.

The numbers are part of what a seed means and never change. Random numbers come from NumPy's Philox generator keyed by
SeedSequence, both frozen by NumPy's compatibility policy.
"""

from enum import IntEnum, unique

import numpy as np


@unique
class RandomStream(IntEnum):
    """What is drawn from a seed."""

    SUBSET = 1
    """The order of shards of which a subset is the beginning."""
    SHARD_ORDER = 2
    """The order of the subset's shards in each epoch."""
    WINDOW_ORDER = 3
    """The order of samples inside each window of an epoch."""
    AUGMENTATION = 4
    """Crops and flips."""
    MODEL = 5
    """Dropout and stochastic depth."""
    RANDAUGMENT = 6
    MIXUP = 7
    HELD_OUT = 8
    """Which training samples a choice is made on."""
    SEARCH = 9
    """Trials of a search for hyper-parameters."""
    VTAB = 10
    """The thousand examples of a VTAB-1k task."""


def generator(*key: int) -> np.random.Generator:
    """A random generator that is a function of the integers of its key: the seed, a RandomStream, and what counts."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(key)))
