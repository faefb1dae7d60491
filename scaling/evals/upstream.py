"""The classifier that pre-training made, on held-out images of its own classes: accuracy, loss, calibration.

Calibration is the expected calibration error of the top label (arXiv 1706.04599): images are put into 15 bins of equal
width by their confidence, the probability of the highest-scored class; the error is the mean over images of the
distance between a bin's accuracy and its mean confidence. Under a softmax loss that probability is a softmax over the
classes, under a sigmoid loss the sigmoid of the class's own logit. An image of several labels counts as right when the
class is one of them, and one without any label as wrong.
"""

from functools import partial
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from scaling.errors import UserError
from scaling.evals.predictions import predict
from scaling.evals.runner import EvaluationContext, open_pixels
from scaling.evals.settings import UpstreamSettings
from scaling.models.networks.vision_model import VisionModel
from scaling.records.run_plan import EvalPlan

Loss = Literal["softmax", "sigmoid"]

NUM_BINS = 15

TOP = 5


def evaluate(model: VisionModel, plan: EvalPlan, where: EvaluationContext) -> dict[str, float]:
    """`precision_at_1` (the highest-scored class is among the labels; with one label this is `top1`, and reported under
    that name too), `top5` (one of the five highest is), `loss`, `calibration_error`, `mean_confidence`."""
    settings = UpstreamSettings.model_validate(plan.settings)
    source = open_pixels(plan.sources["test"])
    is_multi = source.manifest.label_type == "multi"
    if settings.loss == "softmax" and is_multi:
        raise UserError(
            f"loss: softmax takes one label an image, and {source.manifest.name} is multi-label; write loss: sigmoid"
        )
    loss = settings.loss or ("sigmoid" if is_multi else "softmax")
    rows = predict(model, source, settings.batch, where, partial(_per_image, kind=loss), num_columns=4)
    if not where.is_first:
        return {}
    hits, top, losses, confidences = rows.T
    precision = float(hits.mean())
    return {
        "precision_at_1": precision,
        "top1": precision,
        "top5": float(top.mean()),
        "loss": float(losses.mean()),
        "calibration_error": calibration_error(confidences, hits),
        "mean_confidence": float(confidences.mean()),
    }


def calibration_error(confidences: NDArray[np.float64], hits: NDArray[np.float64], num_bins: int = NUM_BINS) -> float:
    """Mean distance between accuracy and confidence, over bins of equal width ]k/n, (k+1)/n] weighted by their images.

    `confidences` (N,) in [0, 1], `hits` (N,) of 0 and 1."""
    bins = np.clip(np.ceil(confidences * num_bins).astype(np.int64) - 1, 0, num_bins - 1)
    accuracy, confidence = (np.bincount(bins, weights=values, minlength=num_bins) for values in (hits, confidences))
    return float(np.abs(accuracy - confidence).sum() / len(hits))


def _per_image(logits: torch.Tensor, labels: torch.Tensor, kind: Loss) -> torch.Tensor:
    """(b, 4): hit of the highest class, hit among the five highest, loss, confidence."""
    ranked = logits.topk(min(TOP, logits.shape[1]), dim=1).indices
    hits = (ranked[:, :, None] == labels[:, None, :]).any(dim=2)
    if kind == "softmax":
        losses = F.cross_entropy(logits, labels[:, 0], reduction="none")
        confidences = logits.softmax(dim=1).amax(dim=1)
    else:
        targets = torch.zeros(len(logits), logits.shape[1] + 1, device=logits.device)
        # The padding, -1, goes to one more column that is cut off again.
        targets.scatter_(1, torch.where(labels < 0, logits.shape[1], labels), 1.0)
        losses = F.binary_cross_entropy_with_logits(logits, targets[:, :-1], reduction="none").sum(dim=1)
        confidences = logits.amax(dim=1).sigmoid()
    return torch.stack([hits[:, 0].float(), hits.any(dim=1).float(), losses, confidences], dim=1)
