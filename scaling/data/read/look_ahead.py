"""Work begun a little before its result is asked for, in order, and with few results waiting.

`begun_ahead` bounds work that is given to threads, `in_order` does so for plain functions, and `Prefetcher` runs a
whole iterator in a thread of its own.
"""

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, Self, TypeVar

NUM_AHEAD = 2

Item = TypeVar("Item")


def begun_ahead(begun: Iterable[Item], limit: int, size: Callable[[Item], int] = lambda item: 1) -> Iterator[Item]:
    """The items in order; taking one from `begun` begins its work. An item is handed out when the sizes of those begun
    after it add up to `limit`: enough work is under way, and memory stays bounded however many items there are."""
    waiting: deque[Item] = deque()
    total = 0
    for item in begun:
        waiting.append(item)
        total += size(item)
        while total - size(waiting[0]) >= limit:
            total -= size(waiting[0])
            yield waiting.popleft()
    while waiting:
        yield waiting.popleft()


def in_order(pool: ThreadPoolExecutor, work: Iterable[Callable[[], Item]], ahead: int) -> Iterator[Item]:
    """Results in the order of `work`, of which up to `ahead` pieces are begun before their results are asked for."""
    for future in begun_ahead((pool.submit(piece) for piece in work), ahead):
        yield future.result()


class Prefetcher(Generic[Item]):
    """Up to `NUM_AHEAD` finished items wait for the consumer; exceptions reach it, and leaving ends the thread.

    The iterator is made, advanced and closed in the thread. Use as a context manager, once.
    """

    def __init__(self, make: Callable[[], Iterator[Item]]) -> None:
        self._make = make
        self._queue: queue.Queue[tuple[Item] | BaseException | None] = queue.Queue(NUM_AHEAD)
        self._is_closed = threading.Event()
        self._thread = threading.Thread(target=self._produce, name="prefetch", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._is_closed.set()
        while self._thread.is_alive():
            # The thread may be waiting for room.
            try:
                self._queue.get_nowait()
            except queue.Empty:
                self._thread.join(0.01)

    def __iter__(self) -> Iterator[Item]:
        while True:
            answer = self._queue.get()
            if answer is None:
                return
            if isinstance(answer, BaseException):
                raise answer
            yield answer[0]

    def _produce(self) -> None:
        items = self._make()
        try:
            for item in items:
                self._queue.put((item,))
                if self._is_closed.is_set():
                    break
            else:
                self._queue.put(None)
        except BaseException as error:  # Raised where the items are consumed.
            self._queue.put(error)
        finally:
            if close := getattr(items, "close", None):
                close()
