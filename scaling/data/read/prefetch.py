"""An iterator run by a thread of its own, a little ahead of whoever consumes it."""

import queue
import threading
from collections.abc import Callable, Iterator
from typing import Generic, Self, TypeVar

NUM_AHEAD = 2

Item = TypeVar("Item")


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
        except BaseException as error:  # Whatever happens here must be told where the items are consumed.
            self._queue.put(error)
        finally:
            if close := getattr(items, "close", None):
                close()
