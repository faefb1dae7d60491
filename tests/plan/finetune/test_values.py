"""Recipes of fine-tuning: every row that the papers and their code give, and what a sweep says instead."""

import pytest

from scaling.errors import UserError
from scaling.evals.finetune_settings import FineTuneSettings
from scaling.plan.finetune.values import FineTuneValues, finetune_values
from scaling.spec.finetune_recipe import finetune_recipe_names, load_finetune_recipe, recipe_for, recipes_digest
from scaling.spec.settings import RunSettings


def values(
    name: str,
    num_images: int,
    *,
    area: float = 300 * 300,
    model: str = "bit-r50x1",
    trained_at: int = 224,
    **settings: object,
) -> FineTuneValues:
    return finetune_values(
        name,
        FineTuneSettings.model_validate(settings),
        model=model,
        trained_at=trained_at,
        num_images=num_images,
        area=area,
    )


@pytest.mark.parametrize(
    ("num_images", "steps", "support_points", "mixup"),
    [
        # big_transfer, bit_hyperrule.py: warm-up, three decays, end.
        (1_000, 500, [100, 200, 300, 400, 500], 0.0),
        (19_999, 500, [100, 200, 300, 400, 500], 0.0),
        (20_000, 10_000, [500, 3_000, 6_000, 9_000, 10_000], 0.1),
        (499_999, 10_000, [500, 3_000, 6_000, 9_000, 10_000], 0.1),
        (500_000, 20_000, [500, 6_000, 12_000, 18_000, 20_000], 0.1),
        (1_281_167, 20_000, [500, 6_000, 12_000, 18_000, 20_000], 0.1),
    ],
)
def test_hyperrule_by_the_number_of_images(
    num_images: int, steps: int, support_points: list[int], mixup: float
) -> None:
    rule = values("bit-hyperrule", num_images)
    assert rule.steps == steps and rule.mixup == mixup
    assert [rule.warmup_steps, *rule.decay_at, rule.steps] == support_points
    assert rule.learning_rates == (0.003,) and rule.batch == 512 and rule.view == "whole"
    settings = rule.recipe.settings
    assert (settings["optimizer"], settings["momentum"], settings["weight_decay"]) == ("sgd", 0.9, 0.0)
    assert (settings["decay"], settings["decay_factor"]) == ("staircase", 0.1)


@pytest.mark.parametrize(
    ("side", "model", "crop_from", "crop"),
    [
        (32, "bit-r50x1", 160, 128),
        (95, "bit-r50x1", 160, 128),
        (96, "bit-r50x1", 448, 384),
        (500, "bit-r101x3", 448, 384),
        (500, "bit-r152x4", 512, 480),
        (32, "bit-r152x4", 160, 128),
    ],
)
def test_hyperrule_by_the_area_of_the_images(side: int, model: str, crop_from: int, crop: int) -> None:
    rule = values("bit-hyperrule", 1_000, area=side * side, model=model)
    assert (rule.crop_from, rule.resolution, rule.augment) == (crop_from, crop, "crop_flip")


def test_hyperrule_counts_the_area_and_not_a_side() -> None:
    assert values("bit-hyperrule", 1_000, area=200 * 40).resolution == 128
    assert values("bit-hyperrule", 1_000, area=200 * 50).resolution == 384


@pytest.mark.parametrize(
    ("data", "num_images", "steps", "dev_share", "vit", "mixer"),
    [
        # ViT Table 4 and appendix B.1.1; Mixer appendix C.
        ("Flowers", 2_040, 500, 0.1, (0.001, 0.003, 0.01, 0.03), (0.003, 0.01, 0.03, 0.06)),
        ("Pets", 3_680, 500, 0.1, (0.001, 0.003, 0.01, 0.03), (0.003, 0.01, 0.03, 0.06)),
        ("CIFAR", 50_000, 10_000, 0.02, (0.001, 0.003, 0.01, 0.03), (0.003, 0.01, 0.03, 0.06)),
        ("ImageNet", 1_281_167, 20_000, 0.01, (0.003, 0.01, 0.03, 0.06), (0.003, 0.01, 0.03, 0.06)),
    ],
)
def test_vit_and_mixer_by_data_set(
    data: str, num_images: int, steps: int, dev_share: float, vit: tuple[float, ...], mixer: tuple[float, ...]
) -> None:
    for name, rates, resolution in (("vit-finetune", vit, 384), ("mixer-finetune", mixer, 224)):
        found = values(name, num_images)
        assert (found.steps, found.dev_share, found.learning_rates) == (steps, dev_share, rates), data
        assert found.warmup_steps == (100 if steps == 500 else 500)
        assert (found.batch, found.resolution, found.view, found.decay_at) == (512, resolution, "upstream", ())
        settings = found.recipe.settings
        assert (settings["optimizer"], settings["momentum"], settings["weight_decay"]) == ("sgd", 0.9, 0.0)
        assert (settings["clip"], settings["decay"], settings["loss"]) == (1.0, "cosine", "softmax")


def test_vtab() -> None:
    vit = values("vit-vtab", 1_000)
    assert (vit.steps, vit.learning_rates) == (2_500, (0.01,))
    for side, resolution in ((32, 224), (300, 448)):
        mixer = values("mixer-vtab", 1_000, area=side * side)
        assert (mixer.steps, mixer.resolution, mixer.learning_rates) == (500, resolution, (0.003, 0.01, 0.03))
        assert round(mixer.dev_share * 1_000) == 200


def test_only_models_trained_at_the_papers_size_change_theirs_by_themselves() -> None:
    assert values("vit-finetune", 1_000, trained_at=32).resolution == 32
    assert values("vit-finetune", 1_000, trained_at=32, resolution=64).resolution == 64


@pytest.mark.parametrize(("given", "view"), [("short_side", "upstream"), ("square", "fewshot"), ("whole", "whole")])
def test_crops_by_name(given: str, view: str) -> None:
    assert values("mixer-finetune", 1_000, crop=given).view == view


def test_another_length_keeps_the_shape_and_another_size_the_crop() -> None:
    rule = values("bit-hyperrule", 1_000, area=32 * 32, steps=50, resolution=64)
    assert [rule.warmup_steps, *rule.decay_at, rule.steps] == [10, 20, 30, 40, 50]
    assert rule.crop_from == 80
    assert values("bit-hyperrule", 1_000, augment="flip").crop_from is None
    assert values("vit-finetune", 1_000, steps=1_000).warmup_steps == 200
    assert values("vit-finetune", 1_000, steps=1_000, warmup_steps=0).warmup_steps == 0


@pytest.mark.parametrize(
    ("settings", "told"), [({"steps": 3}, "decays"), ({"steps": 50, "warmup_steps": 50}, "warm-up")]
)
def test_lengths_that_do_not_fit_are_refused(settings: dict[str, int], told: str) -> None:
    with pytest.raises(UserError, match=told):
        values("bit-hyperrule", 1_000, **settings)


def test_a_recipe_of_a_family() -> None:
    assert recipe_for("auto", "mixer") == recipe_for("auto", "mixer-conv") == "mixer-finetune"
    assert recipe_for("auto", "bit") == "bit-hyperrule" and recipe_for("auto", "timm") == "vit-finetune"
    assert recipe_for("vit-finetune", "mixer") == "vit-finetune"


@pytest.mark.parametrize("name", finetune_recipe_names())
def test_every_recipe_is_settings_of_a_run_with_a_source_and_ends_in_a_row_for_all(name: str) -> None:
    recipe = load_finetune_recipe(name)
    RunSettings(model="vit-b/16", **recipe.settings)
    assert recipe.source and recipe.sizes[-1].below is None
    assert not recipe.images or (recipe.images[-1].below_area is None and not recipe.images[-1].models)
    assert len(recipes_digest(name)) == 64


def test_unknown_recipes_are_refused_with_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean 'vit-finetune'"):
        load_finetune_recipe("vit-finetun")
