"""The peer of the trainer: the loop that a person writes with nothing but PyTorch.

Same model, same uint8 batches, same loss, AdamW with the same groups, same clipping, same precision and micro-batches;
no learning-rate schedule, no log, no gradient exchange, and no engine.
"""

import math
from collections.abc import Iterator

import torch
from torch import nn

from scaling.data.read.loader import Batch
from scaling.models.networks.vision_model import VisionModel, autocast, normalise
from scaling.records.run_plan import RunPlan
from scaling.train.step.losses import upstream_loss
from scaling.train.step.optimizer import build_optimizer


class BareLoop:
    """Optimiser steps on a model that is on its device already."""

    def __init__(self, model: VisionModel, plan: RunPlan, device: torch.device) -> None:
        self._model, self._plan, self._device = model.train(), plan, device
        self._optimizer = build_optimizer(model, plan.recipe, skip_non_finite=False)

    def step(self, batches: Iterator[Batch]) -> None:
        """One step on the next batch."""
        batch, recipe, size = next(batches), self._plan.recipe, self._plan.engine.micro_batch
        self._optimizer.zero_grad()
        for start in range(0, len(batch.labels), size):
            images = self._to_device(batch.images[start : start + size])
            labels = self._to_device(batch.labels[start : start + size])
            with autocast(self._device, recipe.precision):
                logits = self._model(normalise(images))
            loss = upstream_loss(logits, labels, recipe.loss, recipe.label_smoothing)
            (loss * (len(labels) / len(batch.labels))).backward()
        nn.utils.clip_grad_norm_(self._model.parameters(), recipe.clip or math.inf)
        self._optimizer.step()

    def _to_device(self, tensor: torch.Tensor) -> torch.Tensor:
        if tensor.device == self._device or self._device.type != "cuda":
            return tensor
        return tensor.pin_memory().to(self._device, non_blocking=True)
