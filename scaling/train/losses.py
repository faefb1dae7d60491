"""Upstream losses and the one upstream accuracy, for class sets of any size.

Multi-label data is trained with sigmoid cross-entropy, summed over classes and averaged over the batch; the
hierarchy of the labels is ignored (ViT's and BiT's practice on JFT, confirmed by the authors). Single-label data is
trained with softmax cross-entropy.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor


def multi_hot(labels: Tensor, num_classes: int) -> Tensor:
    """Targets (b, num_classes) of 0 and 1 from padded class numbers (b, L), on the labels' device."""
    targets = torch.zeros(len(labels), num_classes + 1, device=labels.device)
    # The padding, -1, goes to one more column that is cut off again.
    targets.scatter_(1, torch.where(labels < 0, num_classes, labels), 1.0)
    return targets[:, :num_classes]


def upstream_loss(
    logits: Tensor, labels: Tensor, kind: Literal["sigmoid", "softmax"], label_smoothing: float = 0.0
) -> Tensor:
    """Mean loss over the batch: logits (b, K), padded class numbers (b, L).

    Smoothing by s makes (1 - s) * target + s / K of every target, under either loss.
    """
    logits = logits.float()
    if kind == "softmax":
        return F.cross_entropy(logits, labels[:, 0], label_smoothing=label_smoothing)
    targets = multi_hot(labels, logits.shape[1])
    if label_smoothing:
        targets = (1 - label_smoothing) * targets + label_smoothing / logits.shape[1]
    return F.binary_cross_entropy_with_logits(logits, targets, reduction="sum") / len(logits)


def precision_at_1(logits: Tensor, labels: Tensor) -> Tensor:
    """For each image whether its highest-scored class is among its labels: (b,) of 0 and 1.

    With one label an image this is top-1 accuracy.
    """
    return (logits.argmax(dim=1, keepdim=True) == labels).any(dim=1).float()
