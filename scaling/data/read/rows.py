"""From the places of samples to rows of a batch: the work of decoding threads, in whichever process they run."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from scaling.data.read.images.decode import Pixels
from scaling.data.read.images.transforms import Augmentation, evaluate_view
from scaling.data.read.pixel_cache import DecodedSample
from scaling.data.read.pixels import PixelSource
from scaling.data.read.processes.shared_memory import Region
from scaling.data.read.stand_in import Tell, get_or_stand_in
from scaling.data.select.permute import permute_pixels
from scaling.data.select.subset import Subset

GROUP_BYTES = 2**22
"""Of decoded pixels that wait for others before views are made of them: some twenty crops of photographs for 224 px."""


@dataclass(frozen=True, slots=True)
class Places:
    """Samples of consecutive rows, and what decides about their views."""

    shards: NDArray[np.int64]
    """(n,)"""
    indices: NDArray[np.int64]
    """(n,), each inside its shard."""
    draws: NDArray[np.float64] | None = None
    """(n, words) of `Augmentation.draw`; None in evaluation."""

    def __len__(self) -> int:
        return len(self.shards)

    def part(self, rows: slice) -> "Places":
        return Places(self.shards[rows], self.indices[rows], None if self.draws is None else self.draws[rows])


@dataclass(frozen=True, slots=True)
class Buffer:
    """Room for the images of a batch."""

    images: torch.Tensor
    """uint8 (b, 3, size, size), channels last in memory."""
    region: Region | None = None
    """Where it lies in the memory that is shared with decode processes."""


class Rows(Protocol):
    """How the rows of a loader's batches are made. Threads may share one, and other processes may have a copy."""

    @property
    def source(self) -> PixelSource: ...

    @property
    def size(self) -> int:
        """Pixels a side of the views."""

    def fill(self, images: torch.Tensor, places: Places, tell: Tell) -> list[list[int]]:
        """Write the views into `images`, uint8 (n, 3, size, size); the class numbers of each row."""


@dataclass(frozen=True, slots=True)
class TrainRows:
    """Augmented views, where other samples stand in for those that cannot be used."""

    source: PixelSource
    subset: Subset
    augment: Augmentation
    size: int
    permutation: torch.Tensor | None
    """int64 (size^2,), see `permute`."""

    def fill(self, images: torch.Tensor, places: Places, tell: Tell) -> list[list[int]]:
        assert places.draws is not None
        rows = zip(places.shards.tolist(), places.indices.tolist(), places.draws.tolist(), strict=True)
        samples = (
            (get_or_stand_in(self.source, self.subset, shard, index, partial(self.augment.crop, draws), tell), draws)
            for shard, index, draws in rows
        )
        return _fill(
            images, samples, lambda pixels, draws: self.augment.view(pixels, draws, self.size), self.permutation
        )


@dataclass(frozen=True, slots=True)
class EvalRows:
    """The views that an evaluation sees; a sample that cannot be used is an error."""

    source: PixelSource
    transform: str
    size: int
    permutation: torch.Tensor | None

    def fill(self, images: torch.Tensor, places: Places, tell: Tell) -> list[list[int]]:
        rows = zip(places.shards.tolist(), places.indices.tolist(), strict=True)
        samples = ((self.source.get(shard, index), None) for shard, index in rows)
        return _fill(
            images, samples, lambda pixels, _: evaluate_view(pixels, self.transform, self.size), self.permutation
        )


Draws = TypeVar("Draws")


def _fill(
    images: torch.Tensor,
    samples: Iterator[tuple[DecodedSample, Draws]],
    view: Callable[[Pixels, Draws], torch.Tensor],
    permutation: torch.Tensor | None,
) -> list[list[int]]:
    """Write the views of samples, permuted, into `images`, uint8 (n, 3, size, size); the class numbers of each row.

    A few samples are decoded, then viewed, then written. A core that does one of the three again and again has its code
    at hand, which takes a third off the time of images of 32 px and a twentieth off that of photographs for 224 px.
    """
    labels, rows = list[list[int]](), iter(images)
    for group in _groups(samples):
        views = [view(sample.pixels, draws) for sample, draws in group]
        for made in views:
            next(rows)[:] = made if permutation is None else permute_pixels(made, permutation)
        labels += [sample.labels for sample, _ in group]
    return labels


def _groups(samples: Iterator[tuple[DecodedSample, Draws]]) -> Iterator[list[tuple[DecodedSample, Draws]]]:
    """All of them in order, each time so many that they are `GROUP_BYTES` or more."""
    group, num_bytes = list[tuple[DecodedSample, Draws]](), 0
    for one in samples:
        group.append(one)
        num_bytes += one[0].pixels.nbytes
        if num_bytes >= GROUP_BYTES:
            yield group
            group, num_bytes = [], 0
    yield group


class RowsHere:
    """Rows made by threads of this process."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    def buffer(self, num_rows: int) -> Buffer:
        shape = (num_rows, 3, self._rows.size, self._rows.size)
        return Buffer(torch.empty(shape, dtype=torch.uint8, memory_format=torch.channels_last))

    @torch.inference_mode()  # A fifth of the time of small views is bookkeeping for gradients.
    def fill(self, buffer: Buffer, first_row: int, places: Places, tell: Tell) -> list[list[int]]:
        """Make the rows from `first_row` on."""
        return self._rows.fill(buffer.images[first_row : first_row + len(places)], places, tell)

    def rest(self) -> None:
        """Between two uses of a loader; here nothing is kept."""
