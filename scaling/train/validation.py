"""Upstream validation: loss and precision@1 on the held-out split; picks the weights that are kept."""

import torch

from scaling.data.read.loader import EvalLoader
from scaling.models.arithmetic import autocast, normalise
from scaling.models.networks.vision_model import VisionModel
from scaling.records.run_plan import RunPlan
from scaling.train.processes.process_group import Processes
from scaling.train.step.losses import precision_at_1, upstream_loss


@torch.inference_mode()
def validate(model: VisionModel, loader: EvalLoader, plan: RunPlan, processes: Processes) -> dict[str, float]:
    """`upstream/loss` and `upstream/precision_at_1`, means over the whole split; called by all ranks together."""
    model.eval()
    totals = torch.zeros(3, dtype=torch.float64, device=processes.device)
    for batch in loader:
        labels = batch.labels.to(processes.device, non_blocking=True)
        with autocast(processes.device, plan.recipe.precision):
            logits = model(normalise(batch.images.to(processes.device, non_blocking=True)))
        totals[0] += upstream_loss(logits, labels, plan.recipe.loss) * len(labels)
        totals[1] += precision_at_1(logits, labels).sum()
        totals[2] += len(labels)
    loss, hits, count = processes.sum(totals).tolist()
    return {"upstream/loss": loss / count, "upstream/precision_at_1": hits / count}
