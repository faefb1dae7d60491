"""Pieces of work that threads share, with their results in order and few of them waiting."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Result = TypeVar("Result")


def in_order(pool: ThreadPoolExecutor, work: Iterable[Callable[[], Result]], ahead: int) -> Iterator[Result]:
    """Results in the order of `work`, which is begun up to `ahead` pieces before its result is asked for: memory stays
    bounded however long `work` is."""
    pending: deque[Future[Result]] = deque()
    for piece in work:
        pending.append(pool.submit(piece))
        if len(pending) > ahead:
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()
