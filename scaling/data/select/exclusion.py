"""Samples of a data set that no subset may hold, such as near-duplicates of evaluation images.

They are named by the shard number and the index inside the shard. `scaling.data.format.exclusion_list` reads and writes
such lists; `python -m scaling.data dedup` makes one.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

SHARD_STRIDE = 2**32
"""More than any shard holds; shard * SHARD_STRIDE + index is one number per sample."""


@dataclass(frozen=True, eq=False)
class Exclusion:
    """Excluded samples, sorted by shard and then by index."""

    shard_ids: NDArray[np.int64]
    indices: NDArray[np.int64]
    digest: str
    """Empty for no samples."""

    def __len__(self) -> int:
        return len(self.indices)

    def num_kept(self, shard_samples: NDArray[np.int64]) -> NDArray[np.int64]:
        """Samples of each shard that are not excluded."""
        return shard_samples - np.bincount(self.shard_ids, minlength=len(shard_samples))

    def skip(self, shard_ids: NDArray[np.int64], kept: NDArray[np.int64]) -> NDArray[np.int64]:
        """Index inside its shard of each shard's sample number `kept`, counting from 0 those that are kept only."""
        if not len(self):
            return kept
        shards = shard_ids * SHARD_STRIDE
        before = np.searchsorted(self._keys, shards + kept, side="right") - np.searchsorted(self._keys, shards)
        return kept + before

    @cached_property
    def _keys(self) -> NDArray[np.int64]:
        """Sorted, by shard: e - j of the shard's j-th excluded sample e, which comes before the k-th kept one exactly
        when e - j <= k."""
        ranks = np.arange(len(self.indices)) - np.searchsorted(self.shard_ids, self.shard_ids)
        return self.shard_ids * SHARD_STRIDE + self.indices - ranks


NO_EXCLUSION = Exclusion(np.zeros(0, np.int64), np.zeros(0, np.int64), digest="")
"""Every sample may be used."""
