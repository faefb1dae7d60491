"""Batches on the device: in order, begun ahead in a thread, and nothing left behind; a GPU's part is played."""

import threading
from collections.abc import Iterator
from contextlib import closing

import pytest
import torch

from scaling.data.read.loader import Batch
from scaling.data.read.to_device import copied_ahead, on_device


def batches(log: list[str], fails_at: int = 100) -> Iterator[Batch]:
    """Numbered batches, for ever or until one cannot be made; `log` tells when it was closed."""
    try:
        for number in range(1000):
            if number == fails_at:
                raise ValueError("a damaged shard")
            yield Batch(torch.full((1, 3, 2, 2), number, dtype=torch.uint8), torch.tensor([[number]]), number, ())
    finally:
        log.append("closed")


def test_on_a_cpu_batches_are_handed_on_as_they_are() -> None:
    log: list[str] = []
    source = list(zip(range(3), batches(log), strict=False))
    with closing(on_device((batch for _, batch in source), torch.device("cpu"))) as handed:
        assert all(one is batch for one, (_, batch) in zip(handed, source, strict=True))
    with closing(on_device(batches(log), torch.device("cpu"))) as handed:
        next(handed)
    assert log[-1] == "closed"


def test_copies_are_begun_in_a_thread_ahead_of_the_consumer_and_ended_in_its_own() -> None:
    log: list[str] = []
    begun = [threading.Event() for _ in range(1000)]
    threads = set()

    def begin(batch: Batch) -> tuple[str, Batch]:
        threads.add(threading.current_thread())
        begun[batch.position].set()
        return "copy", batch

    def end(copy: tuple[str, Batch]) -> Batch:
        assert copy[0] == "copy" and threading.current_thread() is threading.main_thread()
        return copy[1]

    with closing(copied_ahead(batches(log), begin, end)) as copied:
        for number in range(10):
            assert next(copied).position == number
            # While this one is in use the copy of the next is begun; only so many are, whatever memory there is.
            assert begun[number + 1].wait(timeout=30)
            assert not begun[number + 5].is_set()
    assert log == ["closed"]
    assert threading.main_thread() not in threads and not any(thread.is_alive() for thread in threads)


def test_what_the_loader_raises_comes_after_the_batches_before_it() -> None:
    seen = []
    with pytest.raises(ValueError, match="a damaged shard"):
        for batch in copied_ahead(batches([], fails_at=4), lambda batch: batch, lambda batch: batch):
            seen.append(batch.position)
    assert seen == [0, 1, 2, 3]
