"""Upstream losses and the one upstream accuracy, for class sets of any size.

Multi-label data is trained with sigmoid cross-entropy, summed over classes and averaged over the batch; the
hierarchy of the labels is ignored (ViT's and BiT's practice on JFT, confirmed by the authors). Single-label data is
trained with softmax cross-entropy.

mixup (arXiv 1710.09412) blends every image and its targets with another one of the same global batch; blending targets
is blending losses, because both losses are linear in the targets. As in big_vision there is one share per batch, drawn
from Beta(alpha, alpha) and at least one half. The partner of the image at place i of a batch of B is at place i + B/2
(mod B), where big_vision takes the next one of a device: samples come in random order, so the two are alike in
distribution, and place i + B/2 is on the same process for every number of processes that divides B/2. The share is a
function of (seed, step), so a mixed batch is the same on all of them.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from scaling.data.select.random_streams import RandomStream, generator


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


def mixing_share(seed: int, step: int, alpha: float) -> float:
    """Share of an image itself in the mixture, in [0.5, 1]; of its partner, 1 minus that."""
    share = float(generator(seed, RandomStream.MIXUP, step).beta(alpha, alpha))
    return max(share, 1.0 - share)


def partners(batch: Tensor, rows: slice) -> Tensor:
    """The partners of some rows of one process's share of a batch, whose number must be even. As one piece of it they
    are no copy, so an image is sent to a device once."""
    num_rows = len(batch)
    assert num_rows % 2 == 0, num_rows
    start = (rows.start + num_rows // 2) % num_rows
    stop = start + min(rows.stop, num_rows) - rows.start
    if stop <= num_rows:
        return batch[start:stop]
    return torch.cat([batch[start:], batch[: stop - num_rows]])
