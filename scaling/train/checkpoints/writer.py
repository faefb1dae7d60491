"""Writing beside training: a thread that does one piece of work after another and keeps what came of each.

Checksums and waiting for a disk leave the interpreter to the training loop. What a piece of work raises is kept until
somebody asks, and none of those behind it is done, since they may build on it.
"""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, wait
from typing import Generic, TypeVar

Outcome = TypeVar("Outcome")


class BackgroundWriter(Generic[Outcome]):
    """Every method is for the one thread that submits."""

    def __init__(self) -> None:
        self._thread: ThreadPoolExecutor | None = None
        self._pending: deque[Future[Outcome]] = deque()
        self._has_failed = False

    def submit(self, work: Callable[[], Outcome]) -> None:
        """Do `work` when all before it is done."""
        if self._thread is None:
            self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoints")
        self._pending.append(self._thread.submit(self._do, work))

    def outcomes(self, *, to_the_end: bool) -> Iterator[Outcome]:
        """What the work that is done has returned and nobody was told of, in order; of all, after waiting for it, when
        asked `to_the_end`. Raises what a piece of work raised."""
        while self._pending and (to_the_end or self._pending[0].done()):
            yield self._pending.popleft().result()

    def wait(self) -> None:
        """Until nothing is left to do; what came of it remains to be asked for."""
        wait(self._pending)

    def close(self) -> None:
        """Finish what was submitted and end the thread."""
        if self._thread is not None:
            self._thread.shutdown()

    def _do(self, work: Callable[[], Outcome]) -> Outcome:
        if self._has_failed:
            raise CancelledError("what was to be written before this could not be")
        try:
            return work()
        except BaseException:
            self._has_failed = True
            raise
