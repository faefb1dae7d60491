"""The batch size at which a device is fastest: doubled until nothing is gained by it.

The Mixer paper sweeps {32, 64, ..., 8192} and reports the best images per second per core. This is the same sweep,
ended where it tells nothing more.
"""

from collections.abc import Callable
from dataclasses import dataclass

FIRST_BATCH, LARGEST_BATCH = 32, 8192
"""Ends of the paper's sweep."""

LEAST_GAIN = 0.02
"""Relative; a smaller one is noise."""

PATIENCE = 2
"""Doublings in a row without a gain; one may fall between two good sizes of a cache."""

RULE = (
    f"batch doubled from the first until {PATIENCE} doublings in a row gain less than {LEAST_GAIN:.0%} over the best "
    "rate so far, memory ends or the largest batch is done; the fastest batch counts"
)


@dataclass(frozen=True, slots=True)
class Search:
    """What was tried."""

    tried: tuple[tuple[int, float], ...]
    """Batch and images per second, in order."""
    end: str
    """Why it ended."""

    @property
    def best(self) -> int:
        """The fastest batch; the smaller of two alike."""
        return max(self.tried, key=lambda row: (row[1], -row[0]))[0]


def search_batch(rate_of: Callable[[int], float | None], first: int, largest: int) -> Search:
    """Apply `RULE`; `rate_of` gives the images per second of a batch size, or None where memory does not suffice."""
    tried: list[tuple[int, float]] = []
    best, misses, batch = 0.0, 0, first
    while batch <= largest:
        rate = rate_of(batch)
        if rate is None:
            return Search(tuple(tried), f"memory ends below batch {batch}")
        tried.append((batch, rate))
        misses = 0 if rate >= best * (1 + LEAST_GAIN) else misses + 1
        best = max(best, rate)
        if misses == PATIENCE:
            return Search(tuple(tried), f"no gain up to batch {batch}")
        batch *= 2
    return Search(tuple(tried), f"batch {tried[-1][0]} is the largest that was asked for")
