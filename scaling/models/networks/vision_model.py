"""What every model of a study looks like to training and evaluation: a body, a pre-logits layer, a linear head, and the
numbers in which it works: the input range of its pixels and the precision of its arithmetic.

The three parts have the parameter prefixes `body.`, `pre_logits.` and `head.` in every family, so a checkpoint's
classifier can be separated from the rest without knowing the architecture.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from scaling.errors import UserError


@dataclass(frozen=True, kw_only=True)
class BuildArguments:
    """The arguments of `build_model`: enough to build the same architecture again."""

    name: str
    num_classes: int
    image_size: int
    head_bias: float = 0.0
    drop_path: float = 0.0
    options: Mapping[str, object] = field(default_factory=dict)


class VisionModel(nn.Module):
    """Images (B, 3, H, W) with values in [-1, 1] to logits (B, num_classes)."""

    def __init__(
        self,
        arguments: BuildArguments,
        *,
        family: str,
        body: nn.Module,
        num_features: int,
        pre_logits: nn.Module | None = None,
    ) -> None:
        """`body` maps images to pooled features (B, num_features); `pre_logits` keeps that shape.

        The classifier's kernel starts at zero (Mixer appendix E) and its bias at `arguments.head_bias`.
        """
        super().__init__()
        self.arguments = arguments
        self.family = family
        self.num_features = num_features
        self.body = body
        self.pre_logits = nn.Identity() if pre_logits is None else pre_logits
        self.head = nn.Linear(num_features, arguments.num_classes)
        nn.init.zeros_(self.head.weight)
        nn.init.constant_(self.head.bias, arguments.head_bias)

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """(B, num_features): what the classifier and a linear probe see."""
        return self.pre_logits(self.body(images))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(images))

    def checkpoint_activations(self) -> None:
        """Keep only the inputs of the body's blocks and compute the rest again in the backward pass.

        UserError for a body without timm's `set_grad_checkpointing`, or with one that refuses.
        """
        body: Any = self.body
        try:
            body.set_grad_checkpointing(True)
        except (AttributeError, AssertionError) as error:
            raise UserError(
                f"activation_checkpointing: {self.arguments.name} does not know how; leave it out and lower micro_batch"
            ) from error

    @property
    def num_params(self) -> int:
        return sum(parameter.numel() for parameter in self.parameters())

    @property
    def num_body_params(self) -> int:
        """Without classifier and pre-logits layer: what transfer keeps (ViT appendix B.1.1)."""
        return sum(parameter.numel() for parameter in self.body.parameters())


def normalise(images: Tensor) -> Tensor:
    """uint8 pixels -> floats in [-1, 1], on the images' device (the papers' input range)."""
    return images.float().div_(127.5).sub_(1.0)


def settle_tf32(precision: str) -> None:
    """Have a GPU compute fp32 in whole: PyTorch lets cuDNN round the inputs of fp32 convolutions to TF32's 10 bits."""
    torch.backends.cudnn.allow_tf32 = precision != "fp32"
    torch.backends.cuda.matmul.allow_tf32 = precision != "fp32"


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """bf16 arithmetic where PyTorch considers it safe, or none; weights stay fp32."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")
