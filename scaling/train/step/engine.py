"""The DeepSpeed engine around a model: optimiser, gradient exchange, clipping, ZeRO.

The engine never sees the loader: it is handed one micro-batch at a time and told nothing of data. Mixed precision is
PyTorch's autocast with fp32 weights, so that master weights are fp32 in every ZeRO stage and a checkpoint reads the
same in all of them. A step never waits for the device in ZeRO stage 0 and once in stages 1 and 2, where DeepSpeed asks
whether the norm is a number. Clipping is done here: in stage 0 DeepSpeed would not tell the norm, and in the others it
would ask again for every group of parameters.
"""

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import deepspeed
import numpy as np
import torch
from torch import Tensor, nn

from scaling.data.select.random_streams import RandomStream
from scaling.errors import UserError
from scaling.models.networks.vision_model import VisionModel, autocast, normalise
from scaling.records.run_plan import RunPlan
from scaling.train.processes.process_group import apply_timeout
from scaling.train.step.execution import memory_format, prepare_model
from scaling.train.step.losses import mixing_share, partners, upstream_loss
from scaling.train.step.optimizer import build_optimizer
from scaling.train.step.rules import Batching, learning_rate_at


@dataclass
class Engine:
    """One rank's engine; `train_step` is one optimiser step of the whole run."""

    deepspeed_engine: Any
    model: VisionModel
    plan: RunPlan
    batching: Batching
    device: torch.device
    rank: int
    memory_format: torch.memory_format

    def train_step(self, step: int, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor | float]:
        """Optimiser step number `step` (from 1) on this rank's share of the batch: uint8 images (share, 3, H, W) and
        padded class numbers (share, L), copied to the device unless they are there. Returns the share's mean loss and
        the global gradient norm before clipping, still on the device."""
        loss = self.accumulate(step, images, labels)
        return loss, self.update(step)

    def accumulate(self, step: int, images: Tensor, labels: Tensor) -> Tensor:
        """Forward and backward passes of one step; leaves gradients averaged over the global batch (ZeRO 0)."""
        # What a model draws depends on (seed, step, rank) alone, so a restart has no random state to restore.
        _seed_model(_model_seed(self.plan.seed, step, self.rank), self.device)
        self.model.train()
        images, labels = images.to(self.device), labels.to(self.device)
        alpha = self.plan.recipe.mixup
        share = mixing_share(self.plan.seed, step, alpha) if alpha else 1.0
        total = torch.zeros((), device=self.device)
        for start in range(0, self.batching.share, self.batching.micro_batch):
            if start:
                self.deepspeed_engine.step()
            rows = slice(start, start + self.batching.micro_batch)
            loss = self._loss(self.deepspeed_engine, images, labels, rows, share)
            self.deepspeed_engine.backward(loss)
            total += loss.detach() / self.batching.accumulation
        return total

    def rehearse(self, images: Tensor, labels: Tensor) -> None:
        """Both passes of the first micro-batch, to see that there is room for them: no process waits for another, and
        neither weights nor gradients are left changed."""
        self.model.train()
        images, labels = images.to(self.device), labels.to(self.device)
        loss = self._loss(self.model, images, labels, slice(0, self.batching.micro_batch), 1.0)
        torch.autograd.grad(loss, [parameter for parameter in self.model.parameters() if parameter.requires_grad])

    def _loss(self, model: nn.Module, images: Tensor, labels: Tensor, rows: slice, share: float) -> Tensor:
        """Mean loss of some rows, each a mixture of itself, to `share`, and its partner."""
        recipe = self.plan.recipe
        inputs = self._pixels(images[rows])
        if share < 1:
            inputs = torch.lerp(self._pixels(partners(images, rows)), inputs, share)
        with autocast(self.device, recipe.precision):
            logits = model(inputs)
        loss = upstream_loss(logits, labels[rows], recipe.loss, recipe.label_smoothing)
        if share == 1:
            return loss
        other_loss = upstream_loss(logits, partners(labels, rows), recipe.loss, recipe.label_smoothing)
        return torch.lerp(other_loss, loss, share)

    def update(self, step: int) -> Tensor | float:
        """Clip and apply the gradients; returns their global norm before clipping."""
        for group in self.deepspeed_engine.optimizer.param_groups:
            group["lr"] = learning_rate_at(step, self.plan.schedule, self.plan.recipe)
        if self.plan.engine.zero_stage > 0:
            self.deepspeed_engine.step()
            norm: float | Tensor = self.deepspeed_engine.get_global_grad_norm()
            return norm
        total_norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.plan.recipe.clip or math.inf)
        self.deepspeed_engine.step()
        return total_norm

    def _pixels(self, images: Tensor) -> Tensor:
        return normalise(images.contiguous(memory_format=self.memory_format))


def build_engine(model: VisionModel, plan: RunPlan, batching: Batching, device: torch.device, rank: int) -> Engine:
    """Put a model on its device and wrap it for training as the plan says."""
    model = prepare_model(model, plan, device)
    optimizer = build_optimizer(model, plan.recipe, skip_non_finite=plan.engine.non_finite == "skip")
    config = {
        "train_batch_size": batching.world * batching.share,
        "train_micro_batch_size_per_gpu": batching.micro_batch,
        "gradient_accumulation_steps": batching.accumulation,
        "gradient_clipping": plan.recipe.clip if plan.engine.zero_stage > 0 else 0.0,
        "zero_optimization": {"stage": plan.engine.zero_stage, "overlap_comm": plan.engine.overlap_comm},
        "communication_data_type": plan.recipe.exchange,
        "zero_allow_untested_optimizer": True,
        # DeepSpeed's throughput timer would wait for the GPU twice a step.
        "timers": {"throughput": {"enabled": False}},
        "steps_per_print": 2**62,
    }
    if plan.recipe.precision == "bf16":
        # Without this section the engine switches autocast off again on a GPU and trains in fp32. The modules that it
        # may reduce in lower precision are none: by default gradients of linear layers and convolutions would be
        # exchanged in bf16.
        config["torch_autocast"] = {"enabled": True, "dtype": "bfloat16", "lower_precision_safe_modules": []}
    engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=config, dist_init_required=False)
    if engine.torch_autocast_enabled() != (plan.recipe.precision == "bf16"):
        raise UserError(
            f"precision: {plan.recipe.precision} is not what DeepSpeed {deepspeed.__version__} computes in, as it does "
            "not take the section torch_autocast; install a version that pyproject.toml allows"
        )
    if plan.engine.zero_stage > 0 and plan.recipe.clip:
        engine.optimizer.unscale_and_clip_grads = partial(_clip, most=plan.recipe.clip)
    apply_timeout(engine.seq_data_parallel_group)
    if batching.world == 1 and plan.engine.zero_stage == 0:
        # A process alone would copy all gradients into a buffer and back, 1 % of a step.
        engine.enable_backward_allreduce = False
    return Engine(engine, model, plan, batching, device, rank, memory_format(plan))


def _clip(gradients: list[Tensor], norm: Tensor, *, most: float) -> None:
    """What DeepSpeed's method of ZeRO 1 and 2 does to the gradients of one group of parameters, number for number, for
    the global `norm` that its step has found to be one."""
    scale = 1.0 / torch.clamp((norm + 1e-6) / most, min=1.0)
    for gradient in gradients:
        gradient.mul_(scale)


def _model_seed(seed: int, step: int, rank: int) -> int:
    return int(np.random.SeedSequence((seed, RandomStream.MODEL, step, rank)).generate_state(1, np.uint64)[0])


def _seed_model(seed: int, device: torch.device) -> None:
    """`torch.manual_seed` for the generators that a model on this device uses. It costs 5 µs instead of 260, and keeps
    no list of calls for a CUDA that is never initialised."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)
