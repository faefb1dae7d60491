"""How long a run has been in training steps, and how long it was not.

On a CPU a step's time is what the wall clock says around it. A GPU works behind the host's back, so there a step is
timed by the device itself, between two marks in its queue: nothing waits, and time in which the device stands idle
for want of data counts as a pause although the host never noticed. Both times are carried over restarts by the
checkpoint, so that they describe the whole run and not its last attempt.
"""

import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

import torch


class Clock:
    """Wall time since creation, plus that of earlier attempts, divided into training and pauses."""

    def __init__(self, device: torch.device, train_seconds: float = 0.0, pause_seconds: float = 0.0) -> None:
        self._device = device
        self._started = time.perf_counter()
        self._seconds_before = train_seconds + pause_seconds
        self._train_seconds = self._train_seconds_before = train_seconds
        self._marks: deque[tuple[torch.cuda.Event, torch.cuda.Event]] = deque()

    @contextmanager
    def step(self) -> Iterator[None]:
        """Time inside is training time; everything else is a pause."""
        if self._device.type != "cuda":
            before = time.perf_counter()
            yield
            self._train_seconds += time.perf_counter() - before
            return
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        yield
        end.record()
        self._marks.append((begin, end))
        self._read_marks()

    def settle(self) -> None:
        """Wait until the device has done the steps it was given, so that all of their time is counted."""
        if self._marks:
            self._marks[-1][1].synchronize()
            self._read_marks()

    @property
    def train_seconds(self) -> float:
        """Of the steps that are known to have ended; of all after `settle`."""
        return self._train_seconds

    @property
    def attempt_train_seconds(self) -> float:
        """Those since creation, without earlier attempts."""
        return self._train_seconds - self._train_seconds_before

    @property
    def pause_seconds(self) -> float:
        return max(0.0, time.perf_counter() - self._started + self._seconds_before - self._train_seconds)

    def _read_marks(self) -> None:
        """Count the steps that the device has passed, without waiting for the others."""
        while self._marks and self._marks[0][1].query():
            begin, end = self._marks.popleft()
            self._train_seconds += begin.elapsed_time(end) / 1000
