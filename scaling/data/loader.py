"""Batches for training and evaluation, prepared by background threads.

Training batch t holds the positions [t * B, (t + 1) * B) of the sample order, whatever the number of processes:
rank r of R takes every R-th of them. A batch travels as uint8 pixels and padded class numbers; floats and
multi-hot targets are made on the device. Threads, not processes, because decoding and resizing release the
interpreter's lock, start at once and share one memory of pictures.
"""

import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch

from scaling.data.order import SampleOrder
from scaling.data.pixels import PixelSource, pad_labels
from scaling.data.subset import Subset
from scaling.data.transforms import augment, draw_uniform, evaluate_view
from scaling.errors import UserError

PREFETCHED_BATCHES = 3

CHUNK = 64
"""Images that one thread prepares in one go; small enough to share out, large enough to vectorise."""


@dataclass(frozen=True, slots=True)
class Batch:
    images: torch.Tensor
    """uint8 (b, 3, size, size); memory is channels-last."""
    labels: torch.Tensor
    """int64 (b, L) class numbers, rows filled up with -1."""
    position: int
    """Training position of the global batch's first sample; for evaluation, the index of the first sample."""


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
        augment: str,
        rank: int = 0,
        world: int = 1,
        threads: int = 1,
        start_position: int = 0,
    ) -> None:
        if batch % world:
            workable = [n for n in range(1, batch + 1) if batch % n == 0]
            raise UserError(
                f"a global batch of {batch} does not divide over {world} processes; numbers that work: "
                + ", ".join(map(str, workable))
            )
        self._source = source
        self._order = SampleOrder(subset, seed)
        self._seed, self._batch, self._size, self._augment = seed, batch, image_size, augment
        self._rank, self._world = rank, world
        self._threads = threads
        self._start = start_position

    def __iter__(self) -> Iterator[Batch]:
        with _Prefetcher(self._batches) as batches:
            yield from batches

    def _batches(self) -> Iterator[Batch]:
        position = self._start
        with ThreadPoolExecutor(self._threads, thread_name_prefix="decode") as pool:
            while True:
                yield self._load(position, pool)
                position += self._batch

    def _load(self, position: int, pool: ThreadPoolExecutor) -> Batch:
        mine = slice(self._rank, None, self._world)
        shards, indices = self._order.locate(np.arange(position, position + self._batch)[mine])
        uniform = draw_uniform(self._seed, position, self._batch)[mine]
        pixels = np.empty((len(shards), self._size, self._size, 3), dtype=np.uint8)

        def prepare(start: int) -> list[list[int]]:
            rows = slice(start, start + CHUNK)
            samples = [self._source.get(int(s), int(i)) for s, i in zip(shards[rows], indices[rows], strict=True)]
            augment([image for image, _ in samples], uniform[rows], self._augment, self._size, pixels[rows])
            return [labels for _, labels in samples]

        starts = range(0, len(shards), CHUNK)
        parts = map(prepare, starts) if self._threads == 1 else pool.map(prepare, starts)
        labels = [row for part in parts for row in part]
        return _to_batch(pixels, labels, position)


class EvalLoader:
    """Every sample of a data set exactly once, in canonical order; rank r of R takes every R-th.

    The prepared batches are kept when they fit into `cache_bytes`, so that a validation repeated every few hundred
    steps decodes once.
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
    ) -> None:
        self._source = source
        self._batch, self._size, self._transform = batch, image_size, transform
        self._threads = threads
        counts = source.manifest.shard_samples
        shards = np.repeat(np.arange(len(counts)), counts)
        indices = np.concatenate([np.arange(count) for count in counts])
        self._shards, self._indices = shards[rank::world], indices[rank::world]
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
        with _Prefetcher(self._batches) as batches:
            for batch in batches:
                if self._keeps:
                    seen.append(batch)
                yield batch
        if self._keeps:
            self._kept = seen

    def _batches(self) -> Iterator[Batch]:
        with ThreadPoolExecutor(self._threads, thread_name_prefix="decode") as pool:
            for start in range(0, len(self._shards), self._batch):
                rows = slice(start, start + self._batch)
                samples = list(pool.map(self._view, self._shards[rows], self._indices[rows]))
                pixels = np.stack([image for image, _ in samples])
                yield _to_batch(pixels, [labels for _, labels in samples], start)

    def _view(self, shard: int, index: int) -> tuple[np.ndarray, list[int]]:
        image, labels = self._source.get(int(shard), int(index))
        return evaluate_view(image, self._transform, self._size), labels


def _to_batch(pixels: np.ndarray, labels: list[list[int]], position: int) -> Batch:
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2)
    return Batch(images, torch.from_numpy(pad_labels(labels)), position)


class _Prefetcher:
    """Runs an iterator in a thread, a few batches ahead; its exceptions reach the consumer, and closing ends it."""

    def __init__(self, make: Callable[[], Iterator[Batch]]) -> None:
        self._queue: queue.Queue[Batch | BaseException | None] = queue.Queue(PREFETCHED_BATCHES)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._produce, args=(make,), name="prefetch", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._closed.set()
        while self._thread.is_alive():
            # The producer may be waiting for room.
            try:
                self._queue.get_nowait()
            except queue.Empty:
                self._thread.join(0.01)

    def __iter__(self) -> Iterator[Batch]:
        while True:
            item = self._queue.get()
            if item is None:
                return
            if isinstance(item, BaseException):
                raise item
            yield item

    def _produce(self, make: Callable[[], Iterator[Batch]]) -> None:
        try:
            for batch in make():
                self._queue.put(batch)
                if self._closed.is_set():
                    return
            self._queue.put(None)
        except BaseException as error:  # Whatever happens here must be told where batches are consumed.
            self._queue.put(error)
