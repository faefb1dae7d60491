"""A run's recipe with every `auto` and every default that depends on another setting written out.

What a choice leaves without meaning (the betas of SGD, the magnitude of no RandAugment) is set to zero, so that it
cannot tell two equal runs apart.
"""

import math
from typing import Literal

from scaling.records.run_plan import RecipePlan
from scaling.spec.document import Document
from scaling.spec.settings import RunSettings


def plan_recipe(settings: RunSettings, label_type: Literal["single", "multi"], document: Document) -> RecipePlan:
    """The recipe on data of this label type; softmax on several labels an image is refused."""
    loss = settings.loss
    if loss == "auto":
        loss = "sigmoid" if label_type == "multi" else "softmax"
    if loss == "softmax" and label_type == "multi":
        raise document.error(("defaults", "loss"), "'softmax': the data is multi-label; use loss: sigmoid (or auto)")
    if settings.decay in ("linear", "cosine") and settings.end_learning_rate > settings.learning_rate:
        raise document.error(
            ("defaults", "end_learning_rate"),
            f"{settings.end_learning_rate:g} is above the peak, learning_rate = {settings.learning_rate:g}; a decay "
            "ends lower, for example at 0",
        )
    return RecipePlan(
        optimizer=settings.optimizer,
        learning_rate=settings.learning_rate,
        end_learning_rate=settings.end_learning_rate,
        weight_decay=settings.weight_decay,
        head_weight_decay=(settings.weight_decay if settings.head_weight_decay is None else settings.head_weight_decay),
        decay_scope=settings.decay_scope,
        momentum=settings.momentum if settings.optimizer == "sgd" else 0.0,
        beta1=settings.betas[0] if settings.optimizer == "adam" else 0.0,
        beta2=settings.betas[1] if settings.optimizer == "adam" else 0.0,
        clip=settings.clip,
        loss=loss,
        label_smoothing=settings.label_smoothing,
        augment=settings.augment,
        randaugment_layers=settings.randaugment_layers,
        randaugment_magnitude=settings.randaugment_magnitude if settings.randaugment_layers else 0.0,
        mixup=settings.mixup,
        precision=settings.precision,
    )


def initial_head_bias(setting: float | str, loss: str, num_classes: int) -> float:
    """`auto`: the bias at which a sigmoid head predicts every class with probability about 1/classes, as timm's
    `nlhb` and big_vision's -6.9 for 1,000 classes do; 0 under softmax."""
    if setting != "auto":
        return float(setting)
    return -math.log(num_classes) if loss == "sigmoid" else 0.0
