"""Batches for training and evaluation, prepared by background threads.

Training batch t holds the positions [t * B, (t + 1) * B) of the sample order, whatever the number of processes:
rank r of R takes every R-th of them. A batch travels as uint8 pixels and padded class numbers; floats and
multi-hot targets are made on the device. Threads, not processes, because reading, decoding and resizing release
the interpreter's lock, start at once and share one memory of images.
"""

from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from scaling.data.read.fetch_ahead import NUM_FETCHES, FetchAhead
from scaling.data.read.look_ahead import Prefetcher, begun_ahead
from scaling.data.read.pixels import PixelSource, pad_labels
from scaling.data.read.stand_in import TolerantSource
from scaling.data.read.transforms import Augmentation, evaluate_view
from scaling.data.select.order import SampleOrder
from scaling.data.select.permute import permute_pixels
from scaling.data.select.subset import Subset
from scaling.errors import UserError

CHUNK = 32
"""Images that one thread prepares in one go; small enough to share out, large enough to be worth it."""

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
        start_position: int = 0,
        max_corrupt: int = 0,
        known_corrupt: Iterable[tuple[int, int]] = (),
        permutation: NDArray[np.int64] | None = None,
    ) -> None:
        """`batch` is the global batch; `max_corrupt` different samples may turn out unusable (see `stand_in`), those of
        earlier attempts, `known_corrupt`, included; `permutation` (image_size^2,) rearranges the pixels of every view
        (see `permute`)."""
        if batch % world:
            workable = [n for n in range(1, batch + 1) if batch % n == 0]
            raise UserError(
                f"a global batch of {batch} does not divide over {world} processes; numbers that work: "
                + ", ".join(map(str, workable))
            )
        self._shards, self._shard_ids = source.shards, subset.shard_ids.tolist()
        self._samples = TolerantSource(source, subset, max_corrupt, known_corrupt)
        self._order, self._order_ahead = SampleOrder(subset, seed), SampleOrder(subset, seed)
        self._seed, self._batch, self._size = seed, batch, image_size
        self._augment = Augmentation(augment) if isinstance(augment, str) else augment
        self._rank, self._world = rank, world
        self._threads = threads
        self._start = start_position
        self._arrange = _arranger(permutation)

    def __iter__(self) -> Generator[Batch, None, None]:
        """Closing the generator ends its threads."""
        with Prefetcher(lambda: _run_batches(self._batches, self._threads)) as batches:
            yield from batches

    def _batches(self, pool: ThreadPoolExecutor) -> Iterator["_PendingBatch"]:
        position = self._start
        with FetchAhead(self._shards, self._shard_ids) as fetches:
            while True:
                if fetches.is_needed:
                    self._fetch_ahead(position, fetches)
                yield self._begin(position, pool)
                position += self._batch

    def _fetch_ahead(self, position: int, fetches: FetchAhead) -> None:
        """Half a window ahead, a batch's shards are those of the next window, a few more in every step."""
        mine = np.arange(position, position + self._batch)[self._rank :: self._world]
        ahead = self._order.num_streams * self._order.window // 2
        fetches.ask(np.unique(self._order.locate(mine)[0]).tolist())
        fetches.ask(np.unique(self._order_ahead.locate(mine + ahead)[0]).tolist())

    def _begin(self, position: int, pool: ThreadPoolExecutor) -> "_PendingBatch":
        mine = slice(self._rank, None, self._world)
        shards, indices = self._order.locate(np.arange(position, position + self._batch)[mine])
        uniform = self._augment.draw(self._seed, position, self._batch)[mine]

        def prepare(rows: slice, images: torch.Tensor) -> "_PreparedRows":
            labels, corrupt = [], []
            places = zip(shards[rows].tolist(), indices[rows].tolist(), uniform[rows].tolist(), strict=True)
            for image, (shard, index, draws) in zip(images, places, strict=True):
                sample, stands_in = self._samples.get(shard, index, partial(self._augment.crop, draws))
                image[:] = self._arrange(self._augment.view(sample.pixels, draws, self._size))
                labels.append(sample.labels)
                if stands_in:
                    corrupt.append((shard, index))
            return labels, corrupt

        return _PendingBatch(pool, prepare, len(shards), self._size, position)


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
        cache_bytes: int = 256 * 1024 * 1024,
        permutation: NDArray[np.int64] | None = None,
        samples: NDArray[np.int64] | None = None,
    ) -> None:
        """`batch` is this rank's; `permutation` as in training; `samples` are the canonical positions to read, in
        increasing order (default: all)."""
        self._source = source
        self._batch, self._size, self._transform = batch, image_size, transform
        self._threads = threads
        self._arrange = _arranger(permutation)
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
        with Prefetcher(lambda: _run_batches(self._batches, self._threads)) as batches:
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

        def prepare(rows: slice, images: torch.Tensor) -> "_PreparedRows":
            labels = []
            for image, shard, index in zip(images, shards[rows].tolist(), indices[rows].tolist(), strict=True):
                sample = self._source.get(shard, index)
                image[:] = self._arrange(evaluate_view(sample.pixels, self._transform, self._size))
                labels.append(sample.labels)
            return labels, []

        return _PendingBatch(pool, prepare, len(shards), self._size, start)


def _arranger(permutation: NDArray[np.int64] | None) -> Callable[[torch.Tensor], torch.Tensor]:
    """What rearranges the pixels of a view (3, size, size)."""
    if permutation is None:
        return lambda view: view
    indices = torch.from_numpy(permutation)
    return lambda view: permute_pixels(view, indices)


_PreparedRows = tuple[list[list[int]], list[tuple[int, int]]]
"""Class numbers of each row, and the samples for which others stand in."""


class _PendingBatch:
    """A batch whose rows are being filled by a pool, chunk by chunk."""

    def __init__(
        self,
        pool: ThreadPoolExecutor,
        prepare: Callable[[slice, torch.Tensor], _PreparedRows],
        num_rows: int,
        size: int,
        position: int,
    ) -> None:
        shape = (num_rows, 3, size, size)
        self._images = torch.empty(shape, dtype=torch.uint8, memory_format=torch.channels_last)
        self._position = position
        chunks = [slice(start, start + CHUNK) for start in range(0, num_rows, CHUNK)]
        # A fifth of the time of small views is bookkeeping for gradients.
        prepare = torch.inference_mode()(prepare)
        self._parts = [pool.submit(prepare, rows, self._images[rows]) for rows in chunks]

    @property
    def num_chunks(self) -> int:
        return len(self._parts)

    def finish(self) -> Batch:
        """Wait for the rows; errors of their threads are raised here."""
        parts = [part.result() for part in self._parts]
        labels = [row for rows, _ in parts for row in rows]
        corrupt = tuple(place for _, places in parts for place in places)
        return Batch(self._images, torch.from_numpy(pad_labels(labels)), self._position, corrupt)


def _run_batches(begin: Callable[[ThreadPoolExecutor], Iterator[_PendingBatch]], threads: int) -> Iterator[Batch]:
    """Finished batches in order, while enough of the next ones are under way to keep all threads busy."""
    pool = ThreadPoolExecutor(threads, thread_name_prefix="decode")
    try:
        for batch in begun_ahead(begin(pool), CHUNKS_PER_THREAD * threads, lambda batch: batch.num_chunks):
            yield batch.finish()
    finally:
        pool.shutdown(cancel_futures=True)
