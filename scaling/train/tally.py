"""What happened since the last row of the log: sums that stay on the device until somebody asks.

The sums are part of a checkpoint, so that the row after a restart averages over the same steps as if there had been
none. A loss that is not a number makes its sum not a number, however many steps later one looks.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from scaling.train.process_group import Processes


@dataclass(frozen=True, slots=True)
class Means:
    """Averages over steps and processes."""

    loss: float
    grad_norm: float
    num_steps: int


class Tally:
    """Loss and gradient norm of one process's steps."""

    def __init__(self, device: torch.device) -> None:
        self._sums = torch.zeros(3, dtype=torch.float64, device=device)

    def add(self, loss: Tensor, grad_norm: Tensor | float) -> None:
        """Count one step; nothing waits for the device."""
        self._sums[0] += loss
        self._sums[1] += grad_norm
        self._sums[2] += 1

    def means(self, processes: Processes) -> Means | None:
        """The averages so far, None before the first step; called by all processes together."""
        loss, grad_norm, count = processes.sum(self._sums.clone()).tolist()
        if count == 0:
            return None
        return Means(loss / count, grad_norm / count, round(count / processes.world))

    def reset(self) -> None:
        self._sums.zero_()

    def collect(self, processes: Processes) -> list[list[float]]:
        """The sums of every process, for a checkpoint."""
        return [sums.tolist() for sums in processes.gather(self._sums)]

    def restore(self, collected: list[list[float]], processes: Processes) -> None:
        """Take back what `collect` gave. On another number of processes the first one takes all of it."""
        if len(collected) == processes.world:
            self._sums.copy_(torch.tensor(collected[processes.rank], dtype=torch.float64))
        elif processes.is_first:
            self._sums.copy_(torch.tensor(collected, dtype=torch.float64).sum(dim=0))
