"""Decoded pixels and labels by (shard, index), with a bounded memory of pictures already decoded.

Data sets of tiny pictures fit into memory many times over, and a constant-steps study looks at each picture of a
small subset hundreds of times; decoding it once is exact and free. Large pictures fill the bound at once and are
then decoded at every visit.
"""

import threading

import numpy as np
from numpy.typing import NDArray

from scaling.data.decode import DecodeError, decode_rgb
from scaling.data.manifest import Manifest
from scaling.data.tar_index import CorruptShardError, Shard
from scaling.data.transforms import Pixels
from scaling.errors import UserError

DEFAULT_CACHE_BYTES = 512 * 1024 * 1024


class PixelSource:
    """Random access to a data set's samples. Threads may share one."""

    def __init__(self, manifest: Manifest, cache_bytes: int = DEFAULT_CACHE_BYTES) -> None:
        if manifest.is_declared:
            raise UserError(
                f"data set {manifest.name!r} is declared by count only; make its shards and a manifest before training"
            )
        self.manifest = manifest
        self._shards: dict[int, Shard] = {}
        self._cache: dict[tuple[int, int], tuple[Pixels, list[int]]] = {}
        self._free_bytes = cache_bytes
        self._lock = threading.Lock()

    def get(self, shard_id: int, index: int) -> tuple[Pixels, list[int]]:
        """Pixels (height, width, 3) and class numbers of a sample; errors name shard and key."""
        found = self._cache.get((shard_id, index))
        if found is not None:
            return found
        shard = self._shard(shard_id)
        sample = shard.samples[index]
        try:
            pixels = decode_rgb(shard.image_bytes(sample))
        except DecodeError as error:
            raise CorruptShardError(f"shard {shard.location}: image of sample {sample.key!r}: {error}") from error
        labels = shard.labels(sample)
        num_classes = len(self.manifest.classes)
        if any(not 0 <= label < num_classes for label in labels):
            raise CorruptShardError(
                f"shard {shard.location}: sample {sample.key!r} has labels {labels}, but the manifest has "
                f"{num_classes} classes; index the shards again"
            )
        with self._lock:
            if pixels.nbytes <= self._free_bytes and (shard_id, index) not in self._cache:
                self._free_bytes -= pixels.nbytes
                self._cache[shard_id, index] = pixels, labels
        return pixels, labels

    def shard_labels(self, shard_id: int) -> list[list[int]]:
        """Class numbers of every sample of a shard, without decoding pictures."""
        shard = self._shard(shard_id)
        return [shard.labels(sample) for sample in shard.samples]

    def _shard(self, shard_id: int) -> Shard:
        with self._lock:
            if shard_id not in self._shards:
                shard = Shard(self.manifest.shard_location(shard_id))
                expected = int(self.manifest.shard_samples[shard_id])
                if len(shard.samples) != expected:
                    raise CorruptShardError(
                        f"shard {shard.location} holds {len(shard.samples)} samples, but the manifest says {expected}; "
                        "index the shards again"
                    )
                self._shards[shard_id] = shard
            return self._shards[shard_id]


def pad_labels(labels: list[list[int]]) -> NDArray[np.int64]:
    """Class numbers (n, L), rows filled up with -1; L is the longest list's length, at least 1."""
    longest = max((len(row) for row in labels), default=0)
    padded = np.full((len(labels), max(1, longest)), -1, dtype=np.int64)
    for row, numbers in enumerate(labels):
        padded[row, : len(numbers)] = numbers
    return padded
