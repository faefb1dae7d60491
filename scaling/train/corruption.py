"""The study's budget of unusable samples, kept over all processes and attempts of a run.

Loaders let other samples stand in and tell which ones were unusable; here the different ones are counted, so that an
image that is met again in the next epoch, by another process or after a restart counts once. More than allowed end the
run. Without a budget the loader fails at the first one, and counts nothing.
"""

from collections.abc import Iterable

import torch

from scaling.data.storage.integrity import CorruptSampleError
from scaling.train.processes.process_group import Processes

Place = tuple[int, int]
"""Shard number and index in the shard."""


class CorruptTally:
    """Unusable samples that training met so far."""

    def __init__(self, max_corrupt: int, known: Iterable[Iterable[int]], processes: Processes) -> None:
        """`known` are the places that earlier attempts found."""
        self.max_corrupt = max_corrupt
        self._processes = processes
        self.places: set[Place] = {(shard, index) for shard, index in known}

    def agree(self) -> list[Place]:
        """All different places so far, in order; called by all processes together. CorruptSampleError, on all of them,
        above the budget."""
        if self._processes.world > 1 and self.max_corrupt:
            # One more than allowed is enough to tell that it is too many.
            mine = torch.full((self.max_corrupt + 1, 2), -1, dtype=torch.int64)
            for row, place in enumerate(sorted(self.places)[: len(mine)]):
                mine[row] = torch.tensor(place)
            everywhere = torch.cat(self._processes.gather(mine.to(self._processes.device))).tolist()
            self.places = {(shard, index) for shard, index in everywhere if shard >= 0}
        if len(self.places) > self.max_corrupt:
            raise CorruptSampleError(
                f"{len(self.places)} different unusable samples met by all processes together, and {self.max_corrupt} "
                "allowed: repair the shards that the log names, or allow more with data.max_corrupt"
            )
        return sorted(self.places)
