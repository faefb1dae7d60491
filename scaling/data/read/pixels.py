"""Decoded pixels and labels by (shard, index), with a bounded memory of images already decoded.

Data sets of tiny images fit into memory many times over, and a constant-steps study looks at each image of a
small subset hundreds of times; decoding it once is exact and free. Large images fill the bound at once and are
then decoded at every visit.
"""

import logging
from dataclasses import replace
from itertools import zip_longest
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scaling.data.format.manifest import Manifest
from scaling.data.format.open_shards import OpenShards
from scaling.data.read.images.decode import Crop, DecodeError, decode_rgb
from scaling.data.read.images.jpeg_region import Box
from scaling.data.read.pixel_cache import Address, DecodedSample, OwnPixels, PixelCache, SharedPixels
from scaling.data.storage.integrity import CorruptSampleError

logger = logging.getLogger(__name__)

DEFAULT_CACHE_BYTES = 512 * 1024 * 1024


class PixelSource:
    """Random access to a data set's samples. Threads may share one."""

    def __init__(
        self, manifest: Manifest, cache_bytes: int = DEFAULT_CACHE_BYTES, shared: SharedPixels | None = None
    ) -> None:
        """Decoded images are remembered in `shared`, or else in up to `cache_bytes` of this process."""
        self.manifest = manifest
        self.shards = OpenShards(manifest)
        self._cache_bytes, self._shared = cache_bytes, shared
        self._cache: PixelCache = shared or OwnPixels(cache_bytes)
        self._is_full_told = False

    def __reduce__(self) -> tuple[Any, ...]:
        return _source_elsewhere, (self.manifest, self._cache_bytes, self._shared and self._shared.address)

    def part(self, num_processes: int) -> "PixelSource":
        """For one of some other processes, to be sent there: they share this one's copies of remote shards, and each
        has its part of the memory of images, or the shared one."""
        manifest = replace(self.manifest, access=self.shards.shared_access())
        return PixelSource(manifest, self._cache_bytes // num_processes, self._shared)

    def get(self, shard_id: int, index: int, crop: Crop | None = None) -> DecodedSample:
        """A sample, or the crop of its image; CorruptSampleError when its image or label cannot be used."""
        found = self._cache.recall((shard_id, index))
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
            is_whole = crop is None or self._cache.has_room(height * width * 3)
            return Box(0, 0, height, width) if crop is None or is_whole else crop(height, width)

        try:
            sample = DecodedSample(decode_rgb(encoded, to_decode), labels)
        except DecodeError as error:
            raise CorruptSampleError(
                f"shard {shard.location}: the image of sample {shard.key(index)!r} cannot be decoded ({error})"
            ) from error
        if not is_whole:
            self._tell_full()
            return sample
        self._cache.remember((shard_id, index), sample)
        return _cropped(sample, crop)

    def _tell_full(self) -> None:
        if self._cache_bytes and not self._is_full_told:
            self._is_full_told = True
            logger.info(
                "the memory for decoded images is full, and the others are decoded at each visit; with room for all of "
                "them (launch.pixel_cache) each is decoded once"
            )

    def shard_labels(self, shard_id: int) -> list[list[int]]:
        """Class numbers of every sample of a shard, without decoding images."""
        shard = self.shards.get(shard_id)
        return shard.read_labels(range(len(shard)))


def _source_elsewhere(manifest: Manifest, cache_bytes: int, shared: Address | None) -> PixelSource:
    return PixelSource(manifest, cache_bytes, None if shared is None else SharedPixels.open(manifest, shared))


def _cropped(sample: DecodedSample, crop: Crop | None) -> DecodedSample:
    if crop is None:
        return sample
    return DecodedSample(crop(*sample.pixels.shape[:2]).of(sample.pixels), sample.labels)


def pad_labels(labels: list[list[int]]) -> NDArray[np.int64]:
    """Class numbers (n, L), rows filled up with -1; L is the longest list's length, at least 1."""
    columns = list(zip_longest(*labels, fillvalue=-1)) or [(-1,) * len(labels)]
    return np.ascontiguousarray(np.array(columns, dtype=np.int64).T)
