"""Two clocks of a run: time in training steps, and time in which no step was running.

Both are carried over restarts by the checkpoint, so that they describe the whole run and not its last attempt.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Clock:
    """Starts counting training time at once; pauses are subtracted."""

    def __init__(self, train_seconds: float = 0.0, pause_seconds: float = 0.0) -> None:
        self._started = time.perf_counter()
        self._paused_here = 0.0
        self._train_before = train_seconds
        self._pause_before = pause_seconds

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Time inside counts as a pause: waiting for data, validating, saving."""
        before = time.perf_counter()
        try:
            yield
        finally:
            self._paused_here += time.perf_counter() - before

    @property
    def pause_seconds(self) -> float:
        return self._pause_before + self._paused_here

    @property
    def train_seconds(self) -> float:
        """Not to be asked inside a pause."""
        return self._train_before + time.perf_counter() - self._started - self._paused_here
