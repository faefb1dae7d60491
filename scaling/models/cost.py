"""Parameters and FLOPs of a model, counted on torch's meta device: no weight is allocated, no image computed.

A FLOP is one addition or one multiplication, so a multiply-accumulate is two. Matrix products, convolutions and
attention are counted; normalisation, activations and the optimiser are not (a few per cent at most).
"""

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing import get_context

import timm
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from scaling.models.build import build_model
from scaling.models.registry import find_model
from scaling.models.timm_names import is_timm_name

BATCH = 2
"""Batch normalisation of some timm models refuses a batch of one; FLOPs are proportional to the batch."""

MODELS_PER_WORKER = 10
"""A process takes three seconds to start, about as long as counting a few models."""

METHOD = "torch.utils.flop_counter on the meta device, forward and backward"


@dataclass(frozen=True, kw_only=True)
class ModelCost:
    """One row of `python -m scaling.models --json`."""

    name: str
    family: str
    image_size: int
    num_classes: int
    options: Mapping[str, object]
    shape: Mapping[str, object]
    num_params: int
    """With classifier and pre-logits layer."""
    num_params_body: int
    """Without them."""
    published_params_millions: float | None
    flops_forward_per_image: int
    flops_train_per_image: int
    """Forward and backward."""
    mixes_examples: bool
    """Whether what it computes for one example depends on the others of its micro-batch (batch normalisation)."""
    draws: bool
    """Whether it draws at random in training (dropout, stochastic depth), apart from `drop_path`."""
    method: str
    torch_version: str
    timm_version: str
    source: str


def count_cost(
    name: str,
    *,
    num_classes: int,
    image_size: int,
    options: Mapping[str, object] = {},
) -> ModelCost:
    """Cost of `build_model(name, …)`; raises `UserError` where that does."""
    with torch.device("meta"):
        model = build_model(name, num_classes=num_classes, image_size=image_size, options=options)
        images = torch.empty(BATCH, 3, image_size, image_size)
        with FlopCounterMode(display=False) as counter:
            logits = model(images)
            flops_forward = counter.get_total_flops()
            logits.sum().backward()
            flops_train = counter.get_total_flops()
    spec = None if is_timm_name(name) else find_model(name)[1]
    return ModelCost(
        name=name,
        family=model.family,
        image_size=image_size,
        num_classes=num_classes,
        options=dict(options),
        shape=asdict(spec.shape) if spec and spec.shape is not None else {},
        num_params=model.num_params,
        num_params_body=model.num_body_params,
        published_params_millions=spec.published_params_millions if spec else None,
        flops_forward_per_image=flops_forward // BATCH,
        flops_train_per_image=flops_train // BATCH,
        mixes_examples=any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules()),
        draws=any(_drop_rate(module) > 0 for module in model.modules()),
        method=METHOD,
        torch_version=torch.__version__,
        timm_version=timm.__version__,
        source=spec.source if spec else f"timm {timm.__version__}",
    )


def _drop_rate(module: nn.Module) -> float:
    """Rate of dropout (PyTorch's modules) or of stochastic depth (timm's)."""
    if isinstance(module, nn.modules.dropout._DropoutNd):
        return module.p
    if isinstance(module, nn.MultiheadAttention):
        return float(module.dropout)
    rates = [getattr(module, name, 0.0) for name in ("drop_prob", "drop_rate")]
    return max(float(rate) if isinstance(rate, int | float) else 0.0 for rate in rates)


def count_costs(
    models: Sequence[tuple[str, int]], *, num_classes: int, options: Mapping[str, object] = {}
) -> list[ModelCost]:
    """Costs of several (name, image size); many are shared out over the cores, because counting is slow Python."""
    num_workers = min(os.cpu_count() or 1, len(models) // MODELS_PER_WORKER)
    count = partial(_count_sized, num_classes=num_classes, options=dict(options))
    if num_workers < 2:
        return [count(model) for model in models]
    with ProcessPoolExecutor(num_workers, get_context("spawn")) as pool:
        return list(pool.map(count, models))


def _count_sized(model: tuple[str, int], num_classes: int, options: Mapping[str, object]) -> ModelCost:
    name, image_size = model
    return count_cost(name, num_classes=num_classes, image_size=image_size, options=options)
