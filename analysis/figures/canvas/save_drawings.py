"""Saves the figures of a report on all cores that this process may use: drawing them is most of a report's time.

Copies of this process (`os.fork`) and this process itself take one figure after the other and write its images; the
bytes are those that one process alone writes. What a copy could not draw, for whatever reason, this process draws once
more, so that an error is told as if there were no copies.
"""

import gc
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from analysis.figures.canvas.drawing import Drawing

MAX_PROCESSES = 8
"""More would wait for the longest figure."""

_NUMBER_BYTES = 4


def save_drawings(
    drawings: Sequence[Drawing], folder: Path, progress: Callable[[str], None] = lambda _: None
) -> list[Path]:
    """Write the files of all drawings into `folder` and return their paths, in the order of the drawings; `progress`
    gets the name of each that this process draws."""
    saved: dict[int, list[Path]] = {}

    def draw(number: int) -> None:
        progress(f"figure {number + 1} of {len(drawings)}: {drawings[number].name}")
        saved[number] = drawings[number].save_images(folder)

    waiting, drawn = _Numbers(), _Numbers()
    for number in range(len(drawings)):
        waiting.add(number)
    waiting.close()
    copies: list[int] = []
    try:
        for _ in range(_num_processes(drawings) - 1):
            copies += _start_copy(drawings, folder, waiting, drawn)
        drawn.close()
        for number in waiting:
            draw(number)
    except BaseException:
        for process in copies:
            os.kill(process, signal.SIGKILL)
        raise
    finally:
        for process in copies:
            os.waitpid(process, 0)
    for number in drawn:
        saved[number] = drawings[number].take_images(folder)
    for number, drawing in enumerate(drawings):
        if number not in saved:
            draw(number)
        saved[number].append(drawing.save_points(folder))
    return [path for number in sorted(saved) for path in saved[number]]


def _num_processes(drawings: Sequence[Drawing]) -> int:
    """This one included."""
    if len({drawing.name for drawing in drawings}) < len(drawings):
        return 1  # Of figures with one name, which those of other packages may have, the last stays.
    if sys.platform != "linux":  # Elsewhere the system's own libraries do not stand being copied.
        return 1
    return max(1, min(len(os.sched_getaffinity(0)), MAX_PROCESSES, len(drawings) // 2))


def _start_copy(drawings: Sequence[Drawing], folder: Path, waiting: "_Numbers", drawn: "_Numbers") -> list[int]:
    """The process id of a copy that draws until nothing waits, or nobody waits for it; none where the system has no
    room for one."""
    original = os.getpid()
    gc.freeze()  # A collection in the copy would write to, and so double, every page that holds an object.
    try:
        process = os.fork()
    except OSError:
        return []
    finally:
        if os.getpid() == original:
            gc.unfreeze()
    if process:
        return [process]
    try:
        for number in waiting:
            if os.getppid() != original:
                break
            drawings[number].save_images(folder)
            drawn.add(number)
    finally:
        os._exit(0)  # Without what this process would do at its end, and without a word.


class _Numbers:
    """Numbers in a pipe: each is taken once, by one of several processes; none holds a lock when it is killed."""

    def __init__(self) -> None:
        self._out, self._in = os.pipe()

    def add(self, number: int) -> None:
        os.write(self._in, number.to_bytes(_NUMBER_BYTES, "little"))

    def close(self) -> None:
        """This process adds no more."""
        os.close(self._in)

    def __iter__(self) -> Iterator[int]:
        """Take numbers until none is left and no process adds any."""
        while taken := os.read(self._out, _NUMBER_BYTES):
            yield int.from_bytes(taken, "little")
        os.close(self._out)
