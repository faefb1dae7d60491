"""Decoded pixels and labels by (shard, index), with a bounded memory of images already decoded.

Data sets of tiny images fit into memory many times over, and a constant-steps study looks at each image of a
small subset hundreds of times; decoding it once is exact and free. Large images fill the bound at once and are
then decoded at every visit.
"""

import threading
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from scaling.data.format.manifest import Manifest
from scaling.data.format.open_shards import OpenShards
from scaling.data.read.decode import Crop, DecodeError, Pixels, decode_rgb
from scaling.data.read.jpeg_region import Box
from scaling.data.storage.integrity import CorruptSampleError

DEFAULT_CACHE_BYTES = 512 * 1024 * 1024


class DecodedSample(NamedTuple):
    pixels: Pixels
    labels: list[int]
    """Class numbers; empty when a multi-label image has none."""


class PixelSource:
    """Random access to a data set's samples. Threads may share one."""

    def __init__(self, manifest: Manifest, cache_bytes: int = DEFAULT_CACHE_BYTES) -> None:
        self.manifest = manifest
        self.shards = OpenShards(manifest)
        self._cache_bytes = cache_bytes
        self._cache: dict[tuple[int, int], DecodedSample] = {}
        self._free_bytes = cache_bytes
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        return PixelSource, (self.manifest, self._cache_bytes)

    def part(self, num_processes: int) -> "PixelSource":
        """For one of some other processes, to be sent there: they share this one's copies of remote shards, and each
        has its part of the memory of images."""
        manifest = replace(self.manifest, access=self.shards.shared_access())
        return PixelSource(manifest, self._cache_bytes // num_processes)

    def get(self, shard_id: int, index: int, crop: Crop | None = None) -> DecodedSample:
        """A sample, or the crop of its image; CorruptSampleError when its image or label cannot be used."""
        found = self._cache.get((shard_id, index))
        if found is not None:
            return _cropped(found, crop)
        shard = self.shards.get(shard_id)
        encoded, labels = shard.read(index)
        if problem := self.manifest.label_problem(labels):
            raise CorruptSampleError(
                f"shard {shard.location}: sample {shard.key(index)!r} {problem}; index the shards again"
            )
        is_whole = True

        def to_decode(height: int, width: int) -> Box:
            """All of an image that will be remembered. Room only ever shrinks: what does not fit here, never will."""
            nonlocal is_whole
            is_whole = crop is None or height * width * 3 <= self._free_bytes
            return Box(0, 0, height, width) if crop is None or is_whole else crop(height, width)

        try:
            sample = DecodedSample(decode_rgb(encoded, to_decode), labels)
        except DecodeError as error:
            raise CorruptSampleError(
                f"shard {shard.location}: the image of sample {shard.key(index)!r} cannot be decoded ({error})"
            ) from error
        if not is_whole:
            return sample
        self._remember((shard_id, index), sample)
        return _cropped(sample, crop)

    def shard_labels(self, shard_id: int) -> list[list[int]]:
        """Class numbers of every sample of a shard, without decoding images."""
        shard = self.shards.get(shard_id)
        return shard.read_labels(range(len(shard)))

    def _remember(self, place: tuple[int, int], sample: DecodedSample) -> None:
        if sample.pixels.nbytes > self._free_bytes:
            return
        with self._lock:
            if sample.pixels.nbytes <= self._free_bytes and place not in self._cache:
                self._free_bytes -= sample.pixels.nbytes
                self._cache[place] = sample


def _cropped(sample: DecodedSample, crop: Crop | None) -> DecodedSample:
    if crop is None:
        return sample
    top, left, height, width = crop(*sample.pixels.shape[:2])
    return DecodedSample(sample.pixels[top : top + height, left : left + width], sample.labels)


def pad_labels(labels: list[list[int]]) -> NDArray[np.int64]:
    """Class numbers (n, L), rows filled up with -1; L is the longest list's length, at least 1."""
    longest = max((len(row) for row in labels), default=0)
    padded = np.full((len(labels), max(1, longest)), -1, dtype=np.int64)
    for row, numbers in enumerate(labels):
        padded[row, : len(numbers)] = numbers
    return padded
