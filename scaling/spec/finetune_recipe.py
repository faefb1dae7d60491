"""Named recipes of fine-tuning: the papers' hyper-parameters by size of the data set and of its images.

A recipe is a file `scaling/spec/recipes/finetune/NAME.yaml` with its source. What an evaluation of a sweep writes
itself takes precedence. Its name is no part of a run's identity; its values are.
"""

import functools
from importlib import resources
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field

from scaling.errors import UserError, did_you_mean
from scaling.records.run_plan import Frozen, content_digest

_FOLDER = resources.files("scaling.spec") / "recipes" / "finetune"

Crop = Literal["short_side", "square", "whole"]

OF_FAMILY = {"mixer": "mixer-finetune", "mixer-conv": "mixer-finetune", "bit": "bit-hyperrule"}
OF_OTHERS = "vit-finetune"
"""What `recipe: auto` means, by the family of the model."""

Share = Annotated[float, Field(gt=0, lt=1)]
Count = Annotated[int, Field(gt=0)]


class ImageRule(Frozen):
    """Sizes for images of some area and for some models."""

    below_area: Count | None = None
    """Pixels; None for images of any area."""
    models: tuple[str, ...] = ()
    """None for all."""
    resolution: Count
    crop_from: Count


class SizeRule(Frozen):
    """Length and rates for data sets of some size."""

    below: Count | None = None
    """Training images; None for any number."""
    steps: Count
    warmup_steps: Annotated[int, Field(ge=0)]
    decay_at: tuple[int, ...] = ()
    """The last steps before a staircase steps down."""
    mixup: Annotated[float, Field(ge=0)] = 0.0
    learning_rates: Annotated[tuple[float, ...], Field(min_length=1)]
    dev_share: Share = 0.1
    """Of the training images, on which one of several rates is chosen."""


class FineTuneRecipe(Frozen):
    source: str
    """Where the values stand."""
    batch: Count
    crop: Crop
    """What an evaluation sees of an image."""
    settings: dict[str, Any]
    """Settings of every run."""
    resolutions: dict[int, int] = Field({})
    """Pixels a side of fine-tuning by those of pre-training; any other size stays as it is."""
    images: tuple[ImageRule, ...] = ()
    """Where sizes go by the images: the first that fits counts."""
    sizes: Annotated[tuple[SizeRule, ...], Field(min_length=1)]
    """The first that fits counts."""


def finetune_recipe_names() -> list[str]:
    return sorted(file.name.removesuffix(".yaml") for file in _FOLDER.iterdir() if file.name.endswith(".yaml"))


def finetune_recipe_text(name: str) -> str:
    """The text of the recipe's file; UserError with the nearest name for an unknown one."""
    if name not in finetune_recipe_names():
        raise UserError(
            f"{name!r} is no recipe of fine-tuning; {did_you_mean(name, ['auto', *finetune_recipe_names()])}"
        )
    return (_FOLDER / f"{name}.yaml").read_text(encoding="utf-8")


@functools.cache
def load_finetune_recipe(name: str) -> FineTuneRecipe:
    return FineTuneRecipe.model_validate(yaml.safe_load(finetune_recipe_text(name)))


def recipe_for(name: str, family: str) -> str:
    """The recipe that `recipe: NAME` means for a model of this family."""
    return OF_FAMILY.get(family, OF_OTHERS) if name == "auto" else name


def recipes_of(name: str) -> list[str]:
    """All recipes that `recipe: NAME` may stand for."""
    return sorted({*OF_FAMILY.values(), OF_OTHERS}) if name == "auto" else [name]


def recipes_digest(name: str) -> str:
    """Names the values that `recipe: NAME` may stand for, so that numbers of other values are known as such."""
    recipes = {one: load_finetune_recipe(one) for one in recipes_of(name)}
    return content_digest({one: recipe.model_dump(mode="json", exclude={"source"}) for one, recipe in recipes.items()})
