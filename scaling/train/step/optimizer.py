"""The optimiser of a recipe: which weights are decayed by how much, and what happens to a step that is not a number.

Adam's decay is decoupled (Mixer and ViT); SGD's is added to the gradient after clipping, as in BiT's original recipe.
A step whose gradient is not finite changes nothing when the plan says `skip`: neither weights nor moments nor the
optimiser's own step count. That is decided on the device, without waiting for it. Gradients that reach the optimiser
are averages over all processes, so all decide alike; under ZeRO 1 and above DeepSpeed itself leaves such a step out.
"""

from typing import Any

import torch
from torch import nn

from scaling.records.run_plan import RecipePlan

NOT_KERNELS = ("pos_embed", "cls_token")
"""Learned tables that have two or more axes but are no kernels (big_vision decays `.*/kernel$` only)."""

HEAD = "head."
"""Prefix of the classifier's parameters in every family."""


def build_optimizer(model: nn.Module, recipe: RecipePlan, *, skip_non_finite: bool) -> torch.optim.Optimizer:
    """PyTorch's fused AdamW or SGD: the same update as unfused in one pass over the weights."""
    groups = parameter_groups(model, recipe)
    optimizer: torch.optim.Optimizer
    if recipe.optimizer == "sgd":
        optimizer = torch.optim.SGD(groups, lr=recipe.learning_rate, momentum=recipe.momentum, fused=True)
    else:
        betas = (recipe.beta1, recipe.beta2)
        optimizer = torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=betas, fused=True)
    if skip_non_finite:
        optimizer.register_step_pre_hook(_mark_non_finite)
    return optimizer


def parameter_groups(model: nn.Module, recipe: RecipePlan) -> list[dict[str, Any]]:
    """Parameters by their weight decay. With the scope `kernels` biases, norms, position embeddings and class token
    are not decayed; the classifier has a decay of its own (Scaling ViT, arXiv 2106.04560, Section 3.1)."""
    groups: dict[float, list[nn.Parameter]] = {recipe.weight_decay: [], 0.0: []}
    for name, parameter in model.named_parameters():
        is_kernel = parameter.ndim >= 2 and not any(word in name for word in NOT_KERNELS)
        decay = recipe.head_weight_decay if name.startswith(HEAD) else recipe.weight_decay
        groups.setdefault(decay if is_kernel or recipe.decay_scope == "all" else 0.0, []).append(parameter)
    return [{"params": params, "weight_decay": decay} for decay, params in groups.items() if params]


def _mark_non_finite(optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
    """Tell the fused kernel to leave everything as it is when a gradient is not finite."""
    parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    sums = torch.stack([p.grad.sum(dtype=torch.float32) for p in parameters])
    optimizer.found_inf = (~torch.isfinite(sums).all()).float()  # type: ignore[attr-defined]
    if isinstance(optimizer, torch.optim.SGD):
        # A first step that is skipped would otherwise leave a momentum that was never written.
        for group in optimizer.param_groups:
            for p in group["params"] if group["momentum"] else ():
                if optimizer.state[p].get("momentum_buffer") is None:
                    optimizer.state[p]["momentum_buffer"] = torch.zeros_like(p)
