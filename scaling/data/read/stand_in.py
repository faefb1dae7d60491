"""What training does about a sample that cannot be used.

By default it is an error. A study may allow a number of them: then the nearest usable sample of the same shard,
counting backwards and around within the subset, stands in, so that batches keep their size, every process agrees,
and nothing from outside the subset is seen. The visits are counted and reported with the batch.
"""

import logging
import threading
from collections.abc import Callable, Iterable

import numpy as np

from scaling.data.read.images.decode import Crop
from scaling.data.read.pixel_cache import DecodedSample
from scaling.data.read.pixels import PixelSource
from scaling.data.select.subset import Subset
from scaling.data.storage.integrity import CorruptSampleError

logger = logging.getLogger(__name__)

Tell = Callable[[int, int, CorruptSampleError], None]
"""Called with shard, index and what is wrong, before another sample stands in; an error that it raises goes on."""


def get_or_stand_in(
    source: PixelSource, subset: Subset, shard_id: int, index: int, crop: Crop, tell: Tell
) -> DecodedSample:
    """The crop of a sample of the subset, or of the one that stands in for it."""
    try:
        return source.get(shard_id, index, crop)
    except CorruptSampleError as error:
        tell(shard_id, index, error)
        return _stand_in(source, subset, shard_id, index, crop, error)


def _stand_in(
    source: PixelSource, subset: Subset, shard_id: int, index: int, crop: Crop, error: CorruptSampleError
) -> DecodedSample:
    (place,) = np.flatnonzero(subset.shard_ids == shard_id).tolist()
    indices = subset.indices_of(place)
    own = indices.index(index)
    for step in range(1, len(indices)):
        try:
            return source.get(shard_id, indices[own - step], crop)
        except CorruptSampleError:
            continue
    raise CorruptSampleError(f"{error}; and no sample of its shard can stand in") from error


class CorruptCount:
    """Counts the unusable samples that one process meets, of which `max_corrupt` different ones are allowed. Threads
    may share one."""

    def __init__(self, max_corrupt: int, known: Iterable[tuple[int, int]] = ()) -> None:
        """`known` unusable samples, as (shard, index), count as met."""
        self._max_corrupt = max_corrupt
        self._corrupt = set(known)
        self._lock = threading.Lock()

    def add(self, shard_id: int, index: int, error: CorruptSampleError) -> None:
        """CorruptSampleError when it is one too many."""
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
