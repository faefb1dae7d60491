"""Random numbers that are a function of (seed, split, sample index, name), never of what was drawn before.

Every quantity of a sample has a name and every (sample, name) pair its own number, so a sample looks the
same whichever process, batch or shard makes it, and a new quantity leaves all the others as they were.
The mixing function is the finaliser of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014).
"""

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Keys = NDArray[np.uint64]

GOLDEN_GAMMA = np.uint64(0x9E3779B97F4A7C15)


def mix(bits: Keys) -> Keys:
    """SplitMix64's finaliser: a bijection of 64-bit words under which near inputs become unrelated."""
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))


def name_key(name: str) -> np.uint64:
    """64 bits of a name, the same in every process (Python's own `hash` is salted)."""
    return np.uint64(int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little"))


def uniform_from_bits(bits: Keys) -> NDArray[np.float64]:
    """The top 53 bits as a number in [0, 1)."""
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


@dataclass(frozen=True, slots=True)
class Draws:
    """The random numbers of a batch of samples; `keys` has shape (samples,)."""

    keys: Keys

    @classmethod
    def of(cls, seed: int, stream: str, index: NDArray[np.int64]) -> "Draws":
        """The draws of the samples `index` of one stream (such as a split) under `seed` (any integer >= 0)."""
        root = mix(np.array([seed], np.uint64) * GOLDEN_GAMMA + name_key(stream))
        return cls(mix(index.astype(np.uint64) * GOLDEN_GAMMA + root))

    def take(self, rows: NDArray[np.intp]) -> "Draws":
        """The draws of some of the samples."""
        return Draws(self.keys[rows])

    def child(self, name: str) -> "Draws":
        """An independent set of draws, for a part of each sample such as its second object."""
        return Draws(mix(self.keys ^ name_key(name)))

    def bits(self, name: str, count: int | None = None) -> Keys:
        """Random 64-bit words: shape (samples,), or (samples, count)."""
        keys = mix(self.keys + name_key(name))
        if count is None:
            return keys
        return mix(keys[:, None] + np.arange(1, count + 1, dtype=np.uint64) * GOLDEN_GAMMA)

    def uniform(self, name: str, low: float = 0.0, high: float = 1.0, count: int | None = None) -> NDArray[np.float64]:
        """Uniform numbers in [low, high): shape (samples,), or (samples, count)."""
        return low + (high - low) * uniform_from_bits(self.bits(name, count))

    def integers(self, name: str, bound: int) -> NDArray[np.int64]:
        """Integers in [0, bound), shape (samples,)."""
        return np.minimum((self.uniform(name) * bound).astype(np.int64), bound - 1)

    def happens(self, name: str, probability: float) -> NDArray[np.bool_]:
        """True with the given probability, shape (samples,)."""
        return self.uniform(name) < probability
