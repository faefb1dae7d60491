"""Processor time of a process and all that descend from it, sampled while they live, so that any span can be asked for.

Linux tells of every process how long it has computed; a sample every quarter of a second, with straight lines between
two of them, divides that time among the phases of a run to a few hundredths of a second.
"""

import os
import threading
import time
from collections.abc import Collection
from pathlib import Path
from typing import Self

import numpy as np

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


class ProcessorTime:
    """Samples the process `root` and its descendants while it is entered."""

    def __init__(self, root: int, interval_seconds: float = 0.25) -> None:
        self._root, self._interval = root, interval_seconds
        self._samples: dict[int, list[tuple[float, float]]] = {}
        """Unix time and the CPU seconds of the process alone, by its number."""
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._sample_on, name="processor-time", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._is_over.set()
        self._thread.join()

    def of(self, pid: int, begin: float, end: float) -> float:
        """CPU seconds of a process between two Unix times. What it used before its first sample counts from when it
        was last seen not to be there."""
        samples = self._samples.get(pid)
        if not samples:
            return 0.0
        times, seconds = np.array([(samples[0][0] - self._interval, 0.0), *samples]).T
        return float(np.diff(np.interp((begin, end), times, seconds))[0])

    def of_others(self, pids: Collection[int], begin: float, end: float) -> float:
        """Likewise of all processes but these."""
        return sum(self.of(pid, begin, end) for pid in self._samples if pid not in pids)

    def total(self) -> float:
        """CPU seconds of all of them."""
        return sum(samples[-1][1] for samples in self._samples.values())

    def _sample_on(self) -> None:
        while not self._is_over.wait(self._interval):
            for pid in _descendants(self._root):
                seconds = _cpu_seconds(pid)
                if seconds is not None:
                    self._samples.setdefault(pid, []).append((time.time(), seconds))


def tree_cpu_seconds(root: int) -> float:
    """CPU seconds so far of a process and its living descendants."""
    return sum(_cpu_seconds(pid) or 0.0 for pid in _descendants(root))


def _descendants(root: int) -> list[int]:
    """The process and its children, their children and so on, as far as they live."""
    found, unasked = [], [root]
    while unasked:
        pid = unasked.pop()
        found.append(pid)
        try:
            for children in Path(f"/proc/{pid}/task").glob("*/children"):
                unasked += map(int, children.read_text().split())
        except OSError:
            continue  # It has just ended.
    return found


def _cpu_seconds(pid: int) -> float | None:
    """In user and system mode, of all threads; None for a process that has ended."""
    try:
        # The name, in brackets, may hold anything; the 14th and 15th fields of all are times.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND
