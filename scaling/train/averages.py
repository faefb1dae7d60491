"""Averages over the processes of a run: of training since the last row of the log, and of the validation split.

Training's sums stay on the device until somebody asks. They are part of a checkpoint, so that the row after a restart
averages over the same steps as if there had been none. A loss that is not a number makes its sum not a number, however
many steps later one looks; when such steps are skipped they are counted instead. Validation picks the weights that are
kept.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from scaling.data.read.loader import EvalLoader
from scaling.data.read.to_device import on_device
from scaling.models.networks.vision_model import VisionModel, autocast, normalise
from scaling.records.run_plan import RunPlan
from scaling.train.processes.process_group import Processes
from scaling.train.step.losses import precision_at_1, upstream_loss


@dataclass(frozen=True, slots=True)
class Means:
    """Averages over steps and processes."""

    loss: float
    grad_norm: float
    num_steps: int
    num_skipped: int
    """Steps that were left out of the averages, and of training, because their gradient was not finite."""
    non_finite_step: int
    """Number of the last such step; where none is left out, of the first whose gradient is not finite; 0 for none."""


class Tally:
    """Loss and gradient norm of one process's steps."""

    def __init__(self, device: torch.device, *, skip_non_finite: bool) -> None:
        self._skips = skip_non_finite
        self._sums = torch.zeros(5, dtype=torch.float64, device=device)

    def add(self, step: int, loss: Tensor, grad_norm: Tensor | float) -> None:
        """Count one step; nothing waits for the device. The norm is of all processes, so all skip alike."""
        norm = torch.as_tensor(grad_norm, device=self._sums.device)
        is_good = torch.isfinite(norm)
        if self._skips:
            self._sums[3] += ~is_good
            self._sums[4] = torch.where(is_good, self._sums[4], step)
            loss, norm = torch.where(is_good, loss, 0.0), torch.where(is_good, norm, 0.0)
            self._sums[2] += is_good
        else:
            self._sums[2] += 1
            self._sums[4] = torch.where(is_good | (self._sums[4] > 0), self._sums[4], step)
        self._sums[0] += loss
        self._sums[1] += norm

    def means(self, processes: Processes) -> Means | None:
        """The averages so far, None before the first step; called by all processes together."""
        loss, grad_norm, count, skipped, last = processes.sum(self._sums.clone()).tolist()
        if count + skipped == 0:
            return None
        world = processes.world
        return Means(
            loss=loss / count if count else math.nan,
            grad_norm=grad_norm / count if count else math.nan,
            num_steps=round((count + skipped) / world),
            num_skipped=round(skipped / world),
            non_finite_step=round(last / world),
        )

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
            # Every process of the earlier attempt counted the same steps.
            ratio = processes.world / len(collected)
            self._sums.copy_(torch.tensor(collected, dtype=torch.float64).sum(dim=0) * ratio)


@torch.inference_mode()
def validate(model: VisionModel, loader: EvalLoader, plan: RunPlan, processes: Processes) -> dict[str, float]:
    """`upstream/loss` and `upstream/precision_at_1`, means over the whole split; called by all ranks together."""
    model.eval()
    totals = torch.zeros(3, dtype=torch.float64, device=processes.device)
    for batch in on_device(loader, processes.device):
        with autocast(processes.device, plan.recipe.precision):
            logits = model(normalise(batch.images))
        totals[0] += upstream_loss(logits, batch.labels, plan.recipe.loss) * len(batch.labels)
        totals[1] += precision_at_1(logits, batch.labels).sum()
        totals[2] += len(batch.labels)
    loss, hits, count = processes.sum(totals).tolist()
    return {"upstream/loss": loss / count, "upstream/precision_at_1": hits / count}
