"""What a sweep may say about fine-tuning; whatever it leaves out is the recipe's. No torch here."""

from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, Field

from scaling.records.run_plan import Frozen

Count = Annotated[int, Field(gt=0, le=10**9)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]

Values = TypeVar("Values", bound=tuple[float, ...])


def _each_once(values: Values) -> Values:
    if len(set(values)) < len(values):
        raise ValueError(f"a value stands there twice: {list(values)}; each counts once")
    return values


Once = AfterValidator(_each_once)
"""Of a list in which a value that is repeated would count twice."""


class FineTuneSettings(Frozen):
    """Fine-tuning as Mixer (appendix C), ViT (Table 4) and BiT (HyperRule) do it: rates are tried on a part of the
    training images, and the best one is taken to train on all of them. Data sets that come with such a part have it as
    manifests: `dev_train` is trained on and `dev` chooses."""

    recipe: Annotated[str, Field(max_length=64)] = Field(
        "auto", description="Published values by name (scaling.launch --recipes); auto: those of the model's family."
    )
    resolution: Annotated[int, Field(gt=0, le=8192)] | None = Field(
        None, description="Pixels a side, for example 448; default: the recipe's."
    )
    crop: Literal["short_side", "square", "whole"] | None = Field(
        None,
        description="What is scored of a test image: short_side: its short side resized to 8/7 of the resolution, then "
        "the centre; square: both sides, then the centre; whole: both sides to the resolution. Default: the recipe's.",
    )
    augment: Literal["none", "flip", "inception", "crop", "crop_flip"] | None = Field(
        None, description="How training images are varied; default: the recipe's."
    )
    learning_rates: Annotated[tuple[Rate, ...], Field(min_length=1), Once] | None = Field(
        None, description="Peak rates that are tried; of one alone there is no choice. Default: the recipe's."
    )
    steps: Count | None = Field(None, description="Optimiser steps; default: the recipe's for so many images.")
    warmup_steps: Annotated[int, Field(ge=0, le=10**9)] | None = Field(
        None, description="Steps of linear warm-up; default: the recipe's, shortened as the steps are."
    )
    batch: Annotated[int, Field(gt=0, le=10_000_000)] | None = Field(
        None, description="Examples per optimiser step over all devices; default: the recipe's, 512."
    )
    mixup: Annotated[float, Field(ge=0)] | None = Field(None, description="p of mixup; default: the recipe's.")
    dev_share: Annotated[float, Field(ge=0, lt=1)] | None = Field(
        None, description="Share of the training images on which a rate is chosen, such as 0.1; default: the recipe's."
    )
    allow_missing_classes: bool = Field(
        False, description="Train also where classes of the test set have no training image, and so cannot be learnt."
    )
    dev_seed: Seed = Field(0, description="Draws those images.")
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1), Once] = Field(
        (0, 1, 2), description="Seeds of the runs on all training images; the score is the mean over them."
    )
    image_area: Count | None = Field(
        None,
        description="Pixels of a training image, where a recipe goes by them; default: looked up in the first shard.",
    )


def finetune_metrics(settings: FineTuneSettings) -> tuple[str, ...]:
    """What `scaling.plan.finetune.choose.conclude` records."""
    return ("top1", "loss")
