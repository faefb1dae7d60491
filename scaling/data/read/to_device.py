"""Batches on the device that computes, copied to it while it computes on the one before.

A thread takes batches from the loader, moves each into pinned memory, from which alone a copy to a GPU runs beside
everything else, and begins the copy in a stream of its own; computing waits for that copy on the GPU and nothing waits
on the host. Up to four uint8 batches lie on the GPU (`BATCHES_ON_GPU`). On a CPU batches are where they have to be.
"""

from collections.abc import Callable, Generator, Iterable
from dataclasses import replace
from typing import TypeVar

import torch

from scaling.data.read.loader import Batch
from scaling.data.read.look_ahead import Prefetcher

BATCHES_ON_GPU = 4
"""One in use, two that wait, one that is being copied."""

Begun = TypeVar("Begun")


def on_device(batches: Iterable[Batch], device: torch.device) -> Generator[Batch, None, None]:
    """The batches in order, their tensors on `device`. Closing it ends its thread and closes `batches`."""
    if device.type != "cuda":
        yield from batches
        return
    copies = _CopyStream(device)
    yield from copied_ahead(batches, copies.begin, copies.end)


def copied_ahead(
    batches: Iterable[Batch], begin: Callable[[Batch], Begun], end: Callable[[Begun], Batch]
) -> Generator[Batch, None, None]:
    """`end(begin(batch))` of each batch in order; `begin` runs in a thread, ahead of the consumer, whose `end` does."""

    def begun() -> Generator[Begun, None, None]:
        iterator = iter(batches)
        try:
            for batch in iterator:
                yield begin(batch)
        finally:
            if close := getattr(iterator, "close", None):
                close()

    with Prefetcher(begun) as ahead:
        for copy in ahead:
            yield end(copy)


class _CopyStream:
    """Copies in a stream of their own."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)

    def begin(self, batch: Batch) -> tuple[Batch, torch.cuda.Event]:
        """The batch as it will be, and the mark that the stream passes when it is."""
        # A thread begins on GPU 0, whichever its process uses.
        with torch.cuda.device(self._device), torch.cuda.stream(self._stream):
            images, labels = (
                tensor.pin_memory().to(self._device, non_blocking=True) for tensor in (batch.images, batch.labels)
            )
            done = torch.cuda.Event()
            done.record(self._stream)
        return replace(batch, images=images, labels=labels), done

    def end(self, begun: tuple[Batch, torch.cuda.Event]) -> Batch:
        """The batch, for use in the present stream, which waits for the copy."""
        batch, done = begun
        stream = torch.cuda.current_stream(self._device)
        stream.wait_event(done)
        for tensor in (batch.images, batch.labels):
            tensor.record_stream(stream)  # Its memory is not given to a later copy before the stream is done with it.
        return batch
