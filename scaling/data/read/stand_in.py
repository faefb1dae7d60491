"""What training does about a sample that cannot be used.

By default it is an error. A study may allow a number of them: then the nearest usable sample of the same shard,
counting backwards and around within the subset, stands in, so that batches keep their size, every process agrees,
and nothing from outside the subset is seen. The visits are counted and reported with the batch.
"""

import logging
import threading
from collections.abc import Iterable

import numpy as np

from scaling.data.read.decode import Crop
from scaling.data.read.pixels import DecodedSample, PixelSource
from scaling.data.select.subset import Subset
from scaling.data.storage.integrity import CorruptSampleError

logger = logging.getLogger(__name__)


class TolerantSource:
    """A subset's samples, of which `max_corrupt` different ones may be unusable. Threads may share one."""

    def __init__(
        self, source: PixelSource, subset: Subset, max_corrupt: int, known: Iterable[tuple[int, int]] = ()
    ) -> None:
        """`known` unusable samples, as (shard, index), count as met."""
        self._source = source
        self._subset = subset
        self._max_corrupt = max_corrupt
        self._corrupt = set(known)
        self._lock = threading.Lock()

    def get(self, shard_id: int, index: int, crop: Crop | None = None) -> tuple[DecodedSample, bool]:
        """The sample, or the crop of its image, and whether another one stands in for it."""
        try:
            return self._source.get(shard_id, index, crop), False
        except CorruptSampleError as error:
            self._count(shard_id, index, error)
            return self._stand_in(shard_id, index, crop, error), True

    def _count(self, shard_id: int, index: int, error: CorruptSampleError) -> None:
        with self._lock:
            is_new = (shard_id, index) not in self._corrupt
            self._corrupt.add((shard_id, index))
            num_corrupt = len(self._corrupt)
        if num_corrupt > self._max_corrupt:
            raise CorruptSampleError(
                f"{error}; {num_corrupt} unusable samples met, and {self._max_corrupt} allowed: repair the shard, or "
                "allow more with the study's data.max_corrupt"
            ) from error
        if is_new:
            logger.warning("%s; another sample stands in (%d of %d)", error, num_corrupt, self._max_corrupt)

    def _stand_in(self, shard_id: int, index: int, crop: Crop | None, error: CorruptSampleError) -> DecodedSample:
        (place,) = np.flatnonzero(self._subset.shard_ids == shard_id).tolist()
        indices = self._subset.indices_of(place)
        own = indices.index(index)
        for step in range(1, len(indices)):
            try:
                return self._source.get(shard_id, indices[own - step], crop)
            except CorruptSampleError:
                continue
        raise CorruptSampleError(f"{error}; and no sample of its shard can stand in") from error
