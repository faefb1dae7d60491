"""Which samples belong to a subset: exact in count, nested, and named by a digest.

The shards of the data set are put in an order drawn from the subset seed, and the subset is the first
n = round(fraction * N) samples of that order, each shard in its own tar order. For one seed every smaller
subset is therefore part of every larger one: 3 % inside 10 % inside 30 % inside 100 % (design of the Mixer
paper's Figure 2). It is a fair sample when shards hold samples in random order, as the builders of this
project write them. Excluded samples are passed over as if they were not in their shards: N counts the others.
"""

import hashlib
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from scaling.data.select.exclusion import NO_EXCLUSION, Exclusion
from scaling.data.select.random_streams import RandomStream, generator


class ShardedData(Protocol):
    """What has to be known of a data set to draw a subset of it; a `Manifest` is one."""

    @property
    def digest(self) -> str:
        """Names the content."""

    @property
    def num_samples(self) -> int:
        """In all shards; more than they hold when a data set is declared by count only."""

    @property
    def shard_samples(self) -> NDArray[np.int64]:
        """Samples of each shard, in canonical order."""


@dataclass(frozen=True)
class Subset:
    """The first `counts[i]` samples of shard `shard_ids[i]` that are not excluded, for every i; all counts but the last
    are whole shards."""

    shard_ids: NDArray[np.int64]
    counts: NDArray[np.int64]
    num_samples: int
    digest: str
    exclusion: Exclusion = NO_EXCLUSION

    def indices_of(self, place: int) -> list[int]:
        """Indices inside shard `shard_ids[place]` of the subset's samples, in tar order."""
        kept = np.arange(self.counts[place])
        return self.exclusion.skip(np.full_like(kept, self.shard_ids[place]), kept).tolist()


def subset_size(data: ShardedData, fraction: float, exclusion: Exclusion = NO_EXCLUSION) -> int:
    """Samples of the subset at `fraction`; 0 where that is less than half a sample."""
    return round(fraction * (data.num_samples - len(exclusion)))


def select_subset(data: ShardedData, fraction: float, seed: int, exclusion: Exclusion = NO_EXCLUSION) -> Subset:
    """The subset of a data set at `fraction` in (0, 1]; at least one sample.

    A declared data set gives the count and a digest, with no shards.
    """
    assert 0 < fraction <= 1, fraction
    num_samples = max(1, subset_size(data, fraction, exclusion))
    shard_ids = generator(seed, RandomStream.SUBSET).permutation(len(data.shard_samples)).astype(np.int64)
    shard_samples = exclusion.num_kept(data.shard_samples)
    # Shards without samples would make "the last shard" ambiguous and carry nothing.
    shard_ids = shard_ids[shard_samples[shard_ids] > 0]
    ends = np.cumsum(shard_samples[shard_ids])
    num_shards = int(np.searchsorted(ends, num_samples)) + 1
    shard_ids = shard_ids[:num_shards]
    counts = shard_samples[shard_ids]
    if len(counts):
        counts[-1] -= counts.sum() - num_samples
    data_digest = f"{data.digest}-{exclusion.digest}" if exclusion.digest else data.digest
    digest = _digest(data_digest, shard_ids, counts, num_samples)
    return Subset(shard_ids, counts, num_samples, digest, exclusion)


def _digest(data_digest: str, shard_ids: NDArray[np.int64], counts: NDArray[np.int64], num_samples: int) -> str:
    """Names the set of samples, whatever order it is visited in."""
    order = np.argsort(shard_ids, kind="stable")
    state = hashlib.sha256(f"{data_digest}:{num_samples}:".encode())
    state.update(shard_ids[order].astype("<i8").tobytes())
    state.update(counts[order].astype("<i8").tobytes())
    return state.hexdigest()
