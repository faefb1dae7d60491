"""The DeepSpeed engine around a model: optimiser, gradient exchange, clipping, ZeRO.

The engine never sees the loader: it is handed one micro-batch at a time and told nothing of data. Mixed precision is
PyTorch's autocast with fp32 weights, so that master weights are fp32 in every ZeRO stage and a checkpoint reads the
same in all of them. In ZeRO stage 0 clipping is done here, since the engine would not tell the norm there.
"""

from dataclasses import dataclass
from typing import Any

import deepspeed
import torch
from torch import Tensor, nn

from scaling.models.arithmetic import autocast, normalise
from scaling.records.run_plan import RecipePlan, RunPlan
from scaling.train.batching import Batching
from scaling.train.losses import upstream_loss
from scaling.train.schedule import learning_rate_at

NOT_KERNELS = ("pos_embed", "cls_token")
"""Learned tables that have two or more axes but are no kernels (big_vision decays `.*/kernel$` only)."""


@dataclass
class Engine:
    """One rank's engine; `train_step` is one optimiser step of the whole run."""

    deepspeed_engine: Any
    model: nn.Module
    plan: RunPlan
    batching: Batching
    device: torch.device

    def train_step(self, step: int, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor | None]:
        """Optimiser step number `step` (from 1) on this rank's share; loss of the share and global gradient norm,
        both still on the device."""
        for group in self.deepspeed_engine.optimizer.param_groups:
            group["lr"] = learning_rate_at(step, self.plan.schedule, self.plan.recipe)
        self.model.train()
        total = torch.zeros((), device=self.device)
        norm: Tensor | None = None
        for start in range(0, self.batching.share, self.batching.micro_batch):
            rows = slice(start, start + self.batching.micro_batch)
            pixels = images[rows].to(self.device, non_blocking=True)
            with autocast(self.device, self.plan.recipe.precision):
                logits = self.deepspeed_engine(normalise(pixels))
            loss = upstream_loss(logits, labels[rows].to(self.device, non_blocking=True), self.plan.recipe.loss)
            self.deepspeed_engine.backward(loss)
            total += loss.detach() / self.batching.accumulation
            if self.clips_here and start + self.batching.micro_batch == self.batching.share:
                norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.plan.recipe.clip)
            self.deepspeed_engine.step()
        return total, norm if self.clips_here else self.deepspeed_engine.get_global_grad_norm()

    @property
    def clips_here(self) -> bool:
        return self.plan.engine.zero_stage == 0 and self.plan.recipe.clip > 0


def build_engine(model: nn.Module, plan: RunPlan, batching: Batching, device: torch.device) -> Engine:
    """Wrap a model, already on its device, for training as the plan says."""
    optimizer = torch.optim.AdamW(
        parameter_groups(model, plan.recipe),
        lr=plan.recipe.learning_rate,
        betas=(plan.recipe.beta1, plan.recipe.beta2),
        # The fused kernel gives the same update in one pass over the weights.
        fused=True,
    )
    config = {
        "train_batch_size": batching.world * batching.share,
        "train_micro_batch_size_per_gpu": batching.micro_batch,
        "gradient_accumulation_steps": batching.accumulation,
        "gradient_clipping": plan.recipe.clip if plan.engine.zero_stage > 0 else 0.0,
        "zero_optimization": {"stage": plan.engine.zero_stage},
        "zero_allow_untested_optimizer": True,
        "steps_per_print": 2**62,
    }
    engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=config, dist_init_required=False)
    return Engine(engine, model, plan, batching, device)


def parameter_groups(model: nn.Module, recipe: RecipePlan) -> list[dict[str, Any]]:
    """Kernels, which are decayed, and everything else, which is not."""
    kernels, others = [], []
    for name, parameter in model.named_parameters():
        is_table = any(word in name for word in NOT_KERNELS)
        (kernels if parameter.ndim >= 2 and not is_table else others).append(parameter)
    return [{"params": kernels, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0.0}]
