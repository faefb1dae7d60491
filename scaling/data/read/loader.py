"""Batches for training and evaluation, prepared by background threads.

Training batch t holds the positions [t * B, (t + 1) * B) of the sample order, whatever the number of processes:
rank r of R takes every R-th of them. A batch travels as uint8 pixels and padded class numbers; floats and
multi-hot targets are made on the device. Threads decode, in this process or in processes of their own: reading,
decoding and resizing release the interpreter's lock, and only the little that is left, about 0.1 ms an image, takes
turns within a process. Batches are the same bit for bit.
"""

from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count

import numpy as np
import torch
from numpy.typing import NDArray

from scaling.data.read.compute_alone import compute_alone
from scaling.data.read.fetch_ahead import NUM_FETCHES, FetchAhead
from scaling.data.read.images.transforms import Augmentation
from scaling.data.read.look_ahead import Prefetcher, begun_ahead
from scaling.data.read.pixels import PixelSource, pad_labels
from scaling.data.read.processes.decode_processes import DecodeProcesses
from scaling.data.read.processes.remote_rows import RemoteRows
from scaling.data.read.rows import EvalRows, Places, RowsHere, TrainRows
from scaling.data.read.stand_in import CorruptCount
from scaling.data.select.order import SampleOrder
from scaling.data.select.subset import Subset
from scaling.data.storage.integrity import CorruptSampleError
from scaling.errors import UserError

CHUNK = 32
"""Images that one thread prepares in one go; small enough to share out, large enough to be worth it."""

POSITIONS_AT_ONCE = 512
"""Of the order, located and drawn for together; a batch of 16 alone would spend a third of its time on that."""

CHUNKS_PER_THREAD = 2
"""Chunks under way for each thread, so that none waits at the edge of a batch."""


@dataclass(frozen=True, slots=True)
class Batch:
    images: torch.Tensor
    """uint8 (b, 3, size, size); channels last in memory."""
    labels: torch.Tensor
    """int64 (b, L) class numbers, rows filled up with -1."""
    position: int
    """Of the global batch's first sample in training; of the first row in the rank's share in evaluation."""
    corrupt: tuple[tuple[int, int], ...]
    """Shard and index of the samples that could not be used, so that others stand in, once for every row."""


class TrainLoader:
    """The endless stream of one rank's share of the training batches, from any position."""

    def __init__(
        self,
        source: PixelSource,
        subset: Subset,
        *,
        seed: int,
        batch: int,
        image_size: int,
        augment: str | Augmentation,
        rank: int = 0,
        world: int = 1,
        threads: int = 1,
        processes: DecodeProcesses | None = None,
        start_position: int = 0,
        max_corrupt: int = 0,
        known_corrupt: Iterable[tuple[int, int]] = (),
        permutation: NDArray[np.int64] | None = None,
    ) -> None:
        """`batch` is the global batch; `max_corrupt` different samples may turn out unusable (see `stand_in`), those of
        earlier attempts, `known_corrupt`, included; `permutation` (image_size^2,) rearranges the pixels of every view
        (see `permute`). `processes`, which the caller closes, decode with threads of their own in place of `threads`
        here."""
        if batch % world:
            workable = [n for n in range(1, batch + 1) if batch % n == 0]
            raise UserError(
                f"a global batch of {batch} does not divide over {world} processes; numbers that work: "
                + ", ".join(map(str, workable))
            )
        self._shards, self._shard_ids = source.shards, subset.shard_ids.tolist()
        self._corrupt = CorruptCount(max_corrupt, known_corrupt)
        self._order, self._order_ahead = SampleOrder(subset, seed), SampleOrder(subset, seed)
        self._seed, self._batch = seed, batch
        self._augment = Augmentation(augment) if isinstance(augment, str) else augment
        self._rank, self._world = rank, world
        self._start = start_position
        rows = TrainRows(source, subset, self._augment, image_size, _as_tensor(permutation))
        self._decoder = _Decoder(rows, threads, processes)

    def __iter__(self) -> Generator[Batch, None, None]:
        """Closing the generator ends its threads."""
        with Prefetcher(lambda: self._decoder.run(self._batches)) as batches:
            yield from batches

    def _batches(self, pool: ThreadPoolExecutor) -> Iterator["_PendingBatch"]:
        position = self._start
        with FetchAhead(self._shards, self._shard_ids) as fetches:
            for places in self._places():
                if fetches.is_needed:
                    self._fetch_ahead(position, places, fetches)
                yield _PendingBatch(pool, self._decoder.rows, places, position, self._corrupt)
                position += self._batch

    def _places(self) -> Iterator[Places]:
        """This rank's part of one batch after the other."""
        num_batches = max(1, POSITIONS_AT_ONCE // self._batch)
        num_positions = num_batches * self._batch
        for start in count(self._start, num_positions):
            positions = np.arange(start, start + num_positions).reshape(num_batches, self._batch)
            shards, indices = self._order.locate(positions[:, self._rank :: self._world])
            draws = self._augment.draw(self._seed, start, num_positions).reshape(num_batches, self._batch, -1)
            yield from map(Places, shards, indices, draws[:, self._rank :: self._world])

    def _fetch_ahead(self, position: int, places: Places, fetches: FetchAhead) -> None:
        """Half a window ahead, a batch's shards are those of the next window, a few more in every step."""
        mine = np.arange(position, position + self._batch)[self._rank :: self._world]
        ahead = self._order.num_streams * self._order.window // 2
        fetches.ask(np.unique(places.shards).tolist())
        fetches.ask(np.unique(self._order_ahead.locate(mine + ahead)[0]).tolist())


class EvalLoader:
    """Every sample of a data set, or every chosen one, exactly once, in canonical order; rank r of R takes every R-th.

    The prepared batches are kept when they fit into `cache_bytes`, so that a validation repeated every few hundred
    steps decodes once. A sample that cannot be used is an error.
    """

    def __init__(
        self,
        source: PixelSource,
        *,
        batch: int,
        image_size: int,
        transform: str,
        rank: int = 0,
        world: int = 1,
        threads: int = 1,
        processes: DecodeProcesses | None = None,
        cache_bytes: int = 256 * 1024 * 1024,
        permutation: NDArray[np.int64] | None = None,
        samples: NDArray[np.int64] | None = None,
    ) -> None:
        """`batch` is this rank's; `permutation` and `processes` as in training; `samples` are the canonical positions
        to read, in increasing order (default: all)."""
        self._source = source
        self._batch = batch
        self._decoder = _Decoder(EvalRows(source, transform, image_size, _as_tensor(permutation)), threads, processes)
        counts = source.manifest.shard_samples
        starts = np.cumsum(counts) - counts
        self._shards = np.repeat(np.arange(len(counts)), counts)
        self._indices = np.arange(source.manifest.num_samples) - starts[self._shards]
        if samples is not None:
            self._shards, self._indices = self._shards[samples], self._indices[samples]
        self._shards, self._indices = self._shards[rank::world], self._indices[rank::world]
        self._keeps = len(self._shards) * image_size * image_size * 3 <= cache_bytes
        self._kept: list[Batch] | None = None

    def __len__(self) -> int:
        """Samples of this rank."""
        return len(self._shards)

    def __iter__(self) -> Iterator[Batch]:
        if self._kept is not None:
            yield from self._kept
            return
        seen: list[Batch] = []
        with Prefetcher(lambda: self._decoder.run(self._batches)) as batches:
            for batch in batches:
                if self._keeps:
                    seen.append(batch)
                yield batch
        if self._keeps:
            self._kept = seen

    def _batches(self, pool: ThreadPoolExecutor) -> Iterator["_PendingBatch"]:
        needed = np.unique(self._shards)
        with FetchAhead(self._source.shards, np.unique(self._shards).tolist()) as fetches:
            for start in range(0, len(self._shards), self._batch):
                if fetches.is_needed:
                    first = np.searchsorted(needed, self._shards[start])
                    fetches.ask(needed[first : first + NUM_FETCHES].tolist())
                yield self._begin(start, pool)

    def _begin(self, start: int, pool: ThreadPoolExecutor) -> "_PendingBatch":
        shards = self._shards[start : start + self._batch]
        indices = self._indices[start : start + self._batch]
        return _PendingBatch(pool, self._decoder.rows, Places(shards, indices), start, NOTHING_CORRUPT)


NOTHING_CORRUPT = CorruptCount(0)
"""Of an evaluation, where nothing stands in."""


def _as_tensor(permutation: NDArray[np.int64] | None) -> torch.Tensor | None:
    return None if permutation is None else torch.from_numpy(permutation)


_PreparedRows = tuple[list[list[int]], list[tuple[int, int]]]
"""Class numbers of each row, and the samples for which others stand in."""


class _PendingBatch:
    """A batch whose rows are being filled by a pool, chunk by chunk."""

    def __init__(
        self,
        pool: ThreadPoolExecutor,
        rows: RowsHere | RemoteRows,
        places: Places,
        position: int,
        corrupt: CorruptCount,
    ) -> None:
        self._buffer = buffer = rows.buffer(len(places))
        self._position = position

        def fill(first: int) -> _PreparedRows:
            unusable = []

            def tell(shard: int, index: int, error: CorruptSampleError) -> None:
                corrupt.add(shard, index, error)
                unusable.append((shard, index))

            return rows.fill(buffer, first, places.part(slice(first, first + CHUNK)), tell), unusable

        self._parts = [pool.submit(fill, first) for first in range(0, len(places), CHUNK)]

    @property
    def num_chunks(self) -> int:
        return len(self._parts)

    def finish(self) -> Batch:
        """Wait for the rows; errors of their threads are raised here."""
        parts = [part.result() for part in self._parts]
        labels = [row for rows, _ in parts for row in rows]
        corrupt = tuple(place for _, places in parts for place in places)
        return Batch(self._buffer.images, torch.from_numpy(pad_labels(labels)), self._position, corrupt)


class _Decoder:
    """Who makes the rows of a loader's batches: threads of this process, or of decode processes."""

    def __init__(self, rows: TrainRows | EvalRows, threads: int, processes: DecodeProcesses | None) -> None:
        self.rows = RowsHere(rows) if processes is None else RemoteRows(rows, processes)
        self._threads = threads if processes is None else processes.num_threads

    def run(self, begin: Callable[[ThreadPoolExecutor], Iterator[_PendingBatch]]) -> Iterator[Batch]:
        """Finished batches in order, while enough of the next ones are under way to keep all threads busy."""
        pool = ThreadPoolExecutor(self._threads, thread_name_prefix="decode", initializer=compute_alone)
        try:
            for batch in begun_ahead(begin(pool), CHUNKS_PER_THREAD * self._threads, lambda batch: batch.num_chunks):
                yield batch.finish()
        finally:
            pool.shutdown(cancel_futures=True)
            self.rows.rest()
