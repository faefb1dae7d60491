"""The numbers of one fine-tuning: a recipe and what the sweep says, for a model, a data set's size and its images.

Pure. BiT-HyperRule is the case where all of them follow from the number of images and their area.
"""

from dataclasses import dataclass

from scaling.errors import UserError
from scaling.evals.finetune_settings import FineTuneSettings
from scaling.records.run_plan import EvalView
from scaling.spec.finetune_recipe import FineTuneRecipe, ImageRule, SizeRule, load_finetune_recipe

VIEWS: dict[str, EvalView] = {"short_side": "upstream", "square": "fewshot", "whole": "whole"}
"""The crops of Mixer's appendix C, and BiT's, by their names in `scaling.data.read.images.transforms`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FineTuneValues:
    """All that a fine-tuning run needs beside its weights, its data and its rate."""

    recipe: FineTuneRecipe
    resolution: int
    """Pixels a side."""
    view: EvalView
    augment: str
    crop_from: int | None
    """Pixels a side of the square that training crops come from; None without such crops."""
    batch: int
    steps: int
    warmup_steps: int
    decay_at: tuple[int, ...]
    mixup: float
    learning_rates: tuple[float, ...]
    dev_share: float


def needs_area(name: str) -> bool:
    """Whether a recipe goes by the area of the images."""
    return bool(load_finetune_recipe(name).images)


def rates_of(name: str, num_images: int) -> tuple[float, ...]:
    """The peak rates that a recipe tries for so many training images."""
    return _size_rule(load_finetune_recipe(name), num_images).learning_rates


def finetune_values(
    name: str,
    settings: FineTuneSettings,
    *,
    model: str,
    trained_at: int,
    num_images: int,
    area: float | None,
) -> FineTuneValues:
    """Values of the recipe `name` for a model trained at `trained_at` pixels, on `num_images` training images of `area`
    pixels (None where the recipe does not ask). A length other than the recipe's shortens or stretches its warm-up and
    staircase; a resolution other than its own does so to what crops come from. UserError where they do not fit."""
    recipe = load_finetune_recipe(name)
    size = _size_rule(recipe, num_images)
    image = _image_rule(recipe, model, area) if recipe.images else None
    resolution = settings.resolution or (image.resolution if image else recipe.resolutions.get(trained_at, trained_at))
    steps = settings.steps or size.steps
    stretch = steps / size.steps
    warmup = round(size.warmup_steps * stretch) if settings.warmup_steps is None else settings.warmup_steps
    if warmup >= steps:
        raise UserError(
            f"warmup_steps = {warmup} of {steps} steps; a run is longer than its warm-up: lower warmup_steps"
        )
    decay_at = tuple(round(edge * stretch) for edge in size.decay_at)
    if len(set(decay_at)) < len(decay_at) or any(not 0 < edge < steps for edge in decay_at):
        raise UserError(
            f"steps = {steps} leave no room for the {len(decay_at)} decays of {name}; take more, such as 20"
        )
    augment = settings.augment or recipe.settings["augment"]
    return FineTuneValues(
        recipe=recipe,
        resolution=resolution,
        view=VIEWS[settings.crop or recipe.crop],
        augment=augment,
        crop_from=_crop_from(image, resolution) if augment in ("crop", "crop_flip") else None,
        batch=settings.batch or recipe.batch,
        steps=steps,
        warmup_steps=warmup,
        decay_at=decay_at,
        mixup=size.mixup if settings.mixup is None else settings.mixup,
        learning_rates=settings.learning_rates or size.learning_rates,
        dev_share=size.dev_share if settings.dev_share is None else settings.dev_share,
    )


def _size_rule(recipe: FineTuneRecipe, num_images: int) -> SizeRule:
    return next(rule for rule in recipe.sizes if rule.below is None or num_images < rule.below)


def _image_rule(recipe: FineTuneRecipe, model: str, area: float | None) -> ImageRule:
    assert area is not None
    return next(
        rule
        for rule in recipe.images
        if (rule.below_area is None or area < rule.below_area) and (not rule.models or model in rule.models)
    )


def _crop_from(image: ImageRule | None, resolution: int) -> int:
    """In the recipe's proportion; 8/7 of the resolution, as in evaluation, where it has none."""
    return round(resolution * image.crop_from / image.resolution) if image else round(resolution * 8 / 7)
