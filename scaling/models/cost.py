"""Parameters and FLOPs of a model, counted on torch's meta device: no weight is allocated, no image computed.

A FLOP is one addition or one multiplication, so a multiply-accumulate is two. Matrix products, convolutions and
attention are counted; normalisation, activations and the optimiser are not (a few per cent at most).
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import timm
import torch
from torch.utils.flop_counter import FlopCounterMode

from scaling.models.build import build_model
from scaling.models.registry import find_model, is_timm_name

BATCH = 2
"""Batch normalisation of some timm models refuses a batch of one; FLOPs are proportional to the batch."""

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
        shape=asdict(spec.shape) if spec else {},
        num_params=model.num_params,
        num_params_body=model.num_body_params,
        published_params_millions=spec.published_params_millions if spec else None,
        flops_forward_per_image=flops_forward // BATCH,
        flops_train_per_image=flops_train // BATCH,
        method=METHOD,
        torch_version=torch.__version__,
        timm_version=timm.__version__,
        source=spec.source if spec else f"timm {timm.__version__}",
    )
