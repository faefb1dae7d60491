"""A run's recipe with every `auto` and every default that depends on another setting written out.

What a choice leaves without meaning (the betas of SGD, the magnitude of no RandAugment, the end of a rate that does not
fall to one) is set to zero, and the scope of no weight decay to its default, so that it cannot tell two equal runs
apart. `permute` becomes the permutation that training and evaluation share: a model without patches of its own has to
be given the patch that its pixels are permuted by.
"""

import math
from typing import Literal

from scaling.models.registry import patch_size_of
from scaling.records.run_plan import InputPlan, RecipePlan
from scaling.spec.document import Document
from scaling.spec.settings import RunSettings


def plan_recipe(
    settings: RunSettings, label_type: Literal["single", "multi"], image_size: int, document: Document
) -> RecipePlan:
    """The recipe on data of this label type and images of this size; softmax on several labels an image is refused."""
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
    crops = settings.augment in ("crop", "crop_flip")
    if crops != (settings.crop_from is not None) or (settings.crop_from or image_size) < image_size:
        raise document.error(
            ("defaults", "crop_from"),
            f"{settings.crop_from} with augment: {settings.augment} at {image_size} px; a crop is cut from a square at "
            "least as large as the model's images, and no other augmentation takes one: write for example "
            f"augment: crop_flip with crop_from: {round(image_size * 8 / 7)}",
        )
    head_decay = settings.weight_decay if settings.head_weight_decay is None else settings.head_weight_decay
    return RecipePlan(
        optimizer=settings.optimizer,
        learning_rate=settings.learning_rate,
        end_learning_rate=settings.end_learning_rate if settings.decay in ("linear", "cosine") else 0.0,
        weight_decay=settings.weight_decay,
        head_weight_decay=head_decay,
        decay_scope=settings.decay_scope if settings.weight_decay or head_decay else "kernels",
        momentum=settings.momentum if settings.optimizer == "sgd" else 0.0,
        beta1=settings.betas[0] if settings.optimizer == "adam" else 0.0,
        beta2=settings.betas[1] if settings.optimizer == "adam" else 0.0,
        clip=settings.clip,
        loss=loss,
        label_smoothing=settings.label_smoothing,
        augment=settings.augment,
        crop_from=settings.crop_from or 0,
        randaugment_layers=settings.randaugment_layers,
        randaugment_magnitude=settings.randaugment_magnitude if settings.randaugment_layers else 0.0,
        mixup=settings.mixup,
        precision=settings.precision,
        exchange=settings.exchange,
    )


def initial_head_bias(setting: float | str, loss: str, num_classes: int) -> float:
    """`auto`: the bias at which a sigmoid head predicts every class with probability about 1/classes, as timm's
    `nlhb` and big_vision's -6.9 for 1,000 classes do; 0 under softmax."""
    if setting != "auto":
        return float(setting)
    return -math.log(num_classes) if loss == "sigmoid" else 0.0


def plan_input(settings: RunSettings, image_size: int, document: Document) -> InputPlan:
    """The fixed permutation of a run's images of `image_size` pixels a side, drawn by the run's seed."""
    if settings.permute == "none":
        return InputPlan()
    if settings.permute == "global":
        return InputPlan(permute="global", seed=settings.seed)
    patch_size = settings.permute_patch_size or patch_size_of(settings.model)
    if patch_size is None:
        raise document.error(
            ("defaults", "permute_patch_size"),
            f"the setting is missing, and {settings.model} has no patches of its own for permute: "
            "patches_and_pixels; give the patch of the models it is compared with, for example 16",
        )
    if image_size % patch_size:
        raise document.error(
            ("defaults", "permute_patch_size"),
            f"{patch_size} does not divide the {image_size}-pixel images of {settings.model}; give one that does",
        )
    return InputPlan(permute="patches_and_pixels", patch_size=patch_size, seed=settings.seed)
