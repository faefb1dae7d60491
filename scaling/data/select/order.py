"""Which sample is at which position of training: a pure function of (subset, seed, position).

Position p counts examples seen. With n samples in the subset, p lies in epoch e = p // n at place q = p mod n.
An epoch is an exact permutation of the subset, so every image is seen the stated number of times, with no
padding and no drop:

    the subset's shards are put in an order drawn for (seed, e) and laid end to end;
    that sequence is cut into C consecutive ranges, one per *stream*; place q belongs to stream q mod C;
    inside a stream, samples are shuffled within windows of at most W consecutive samples.

A batch takes B/C samples of each of C distant places of the data, so its mixture is that of C shards, while a
reader that follows one stream reads its tars sequentially. A subset that is small enough to be held in memory is
one stream with one window: a uniform shuffle. C and W depend on the subset alone. Nothing depends on ranks or
workers: they only share out the positions of a batch among themselves.

Measured (`python -m scaling.bench pipeline --plan-only`; mean of 20 batches, shards of 1,000): a batch of 4,096 out of
300 million samples comes from 311 shards, of 256 out of a million from 179; a uniform shuffle of everything would
give 4,068 and 226. Where shards are fair samples, as our builders write them, the difference is without effect.
"""

from collections import OrderedDict

import numpy as np
from numpy.typing import NDArray

from scaling.data.select.random_streams import RandomStream, generator
from scaling.data.select.subset import Subset

ORDER_VERSION = 1
"""Changes whenever the same seed would give another order; part of every run's identity."""

FULL_SHUFFLE = 65_536
"""Subsets of at most so many samples are shuffled as a whole."""

NUM_STREAMS = 64

WINDOW = 4096
"""Samples shuffled together inside a stream of a larger subset."""


class SampleOrder:
    """The order of one run's training samples; cheap at any position, O(shards of the subset) once an epoch."""

    def __init__(self, subset: Subset, seed: int) -> None:
        self._subset = subset
        self._seed = seed
        self.num_samples = subset.num_samples
        is_small = subset.num_samples <= FULL_SHUFFLE
        self.num_streams = 1 if is_small else NUM_STREAMS
        self.window = subset.num_samples if is_small else WINDOW
        self._epoch = -1
        self._shards = subset.shard_ids
        self._counts = subset.counts
        self._ends = np.cumsum(subset.counts)
        self._windows: OrderedDict[tuple[int, int, int], NDArray[np.int64]] = OrderedDict()

    def locate(self, positions: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Shard id and index inside the shard of each position (any shape, non-negative)."""
        positions = np.asarray(positions, dtype=np.int64)
        flat = positions.ravel()
        shards = np.empty_like(flat)
        indices = np.empty_like(flat)
        epochs = flat // self.num_samples
        for epoch in np.unique(epochs):
            mine = epochs == epoch
            self._open_epoch(int(epoch))
            sequence = self._places_to_sequence(flat[mine] - epoch * self.num_samples, int(epoch))
            slot = np.searchsorted(self._ends, sequence, side="right")
            starts = self._ends[slot] - self._counts[slot]
            shards[mine] = self._shards[slot]
            indices[mine] = self._subset.exclusion.skip(shards[mine], sequence - starts)
        return shards.reshape(positions.shape), indices.reshape(positions.shape)

    def _open_epoch(self, epoch: int) -> None:
        """Draw the shard order of an epoch."""
        if epoch == self._epoch:
            return
        order = generator(self._seed, RandomStream.SHARD_ORDER, epoch).permutation(len(self._subset.shard_ids))
        self._shards = self._subset.shard_ids[order]
        self._counts = self._subset.counts[order]
        self._ends = np.cumsum(self._counts)
        self._epoch = epoch

    def _places_to_sequence(self, places: NDArray[np.int64], epoch: int) -> NDArray[np.int64]:
        """Place q of the epoch -> index in the epoch's shard sequence, a permutation of range(n)."""
        streams, steps = places % self.num_streams, places // self.num_streams
        # Stream c holds the places q with q mod C = c: the first n mod C streams hold one more.
        base, extra = divmod(self.num_samples, self.num_streams)
        starts = streams * base + np.minimum(streams, extra)
        windows, offsets = np.divmod(steps, self.window)
        result = np.empty_like(places)
        keys = streams * (self.num_samples // self.window + 1) + windows
        for key in np.unique(keys):
            mine = keys == key
            first = int(np.argmax(mine))
            stream, window = int(streams[first]), int(windows[first])
            length = min(self.window, base + (stream < extra) - window * self.window)
            order = self._window_order(epoch, stream, window, length)
            result[mine] = starts[first] + window * self.window + order[offsets[mine]]
        return result

    def _window_order(self, epoch: int, stream: int, window: int, length: int) -> NDArray[np.int64]:
        key = (epoch, stream, window)
        if key not in self._windows:
            self._windows[key] = generator(self._seed, RandomStream.WINDOW_ORDER, *key).permutation(length)
            # Two per stream: positions move forward, and a batch may touch the end of one window and the next.
            if len(self._windows) > 2 * self.num_streams:
                self._windows.popitem(last=False)
        self._windows.move_to_end(key)
        return self._windows[key]
