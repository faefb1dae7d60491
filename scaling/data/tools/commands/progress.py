"""A progress line on stderr."""

import sys
import time

REDRAW_SECONDS = 0.2


class ProgressLine:
    """A line that is rewritten as work gets done: units done, samples, samples per second.

    Where stderr is no terminal, one line at the end.
    """

    def __init__(self, unit: str) -> None:
        self._unit = unit
        self._started = time.monotonic()
        self._drawn = 0.0

    def __call__(self, num_done: int, total: int, num_samples: int) -> None:
        now = time.monotonic()
        is_last = num_done == total
        if not is_last and (not sys.stderr.isatty() or now - self._drawn < REDRAW_SECONDS):
            return
        self._drawn = now
        rate = num_samples / max(now - self._started, 1e-9)
        line = f"{num_done:,}/{total:,} {self._unit}, {rate:,.0f} samples/s"
        print(f"\r{line}" if sys.stderr.isatty() else line, end="\n" if is_last else "", file=sys.stderr, flush=True)
