"""Named recipes: the published table's values, for every model it has, under all that a study writes itself."""

import csv
import fnmatch
from pathlib import Path

import pytest

import analysis.published
from scaling.errors import UserError
from scaling.models.registry import list_models
from scaling.spec.recipe import load_recipe, recipe_names, recipe_values
from scaling.spec.settings import RunSettings
from scaling.spec.study import load_study
from scaling.spec.sweep import RunSpec, expand

TABLE = Path(analysis.published.__path__[0]) / "pretrain_hparams.csv"

DATA = {"JFT-300M": "jft", "ImageNet-21k": "i21k", "ImageNet": "i1k"}

SWEEP = """\
study: recipes
data: {train: train.json, val: val.json}
protocol: {kind: constant_steps, steps: 100_000, batch: 4096}
"""


def published() -> list[tuple[str, str, dict[str, str]]]:
    """Recipe, model and row for every model of ours in the published table."""
    found = []
    for row in csv.DictReader(TABLE.open()):
        family, _, sizes = row["model"].lower().partition("-")
        recipe = f"{family}-{DATA[row['dataset']]}"
        if recipe not in recipe_names():
            continue
        stem, _, variants = sizes.replace("x", "/").partition("/")
        names = [f"{family}-{stem}/{part}" for part in variants.split(",")] if variants else [f"{family}-{stem}/*"]
        patterns = [name.replace("/", "x") if family == "bit" else name for name in names]
        models = [m for m in list_models() if "laptop" not in m and any(fnmatch.fnmatch(m, p) for p in patterns)]
        assert models, row
        found += [(recipe, model, row) for model in models if "half" not in model]
    return found


@pytest.mark.parametrize(("recipe", "model", "row"), published(), ids=lambda value: value if type(value) is str else "")
def test_a_recipe_gives_the_published_values(recipe: str, model: str, row: dict[str, str]) -> None:
    settings = RunSettings(model=model, **recipe_values(recipe, {"model": model}))
    assert settings.learning_rate == float(row["peak_lr"])
    assert settings.weight_decay == float(row["weight_decay"])
    assert settings.dropout == float(row["dropout"] or 0)
    assert settings.drop_path == float(row["stoch_depth"] or 0)
    assert (settings.randaugment_layers > 0) == (float(row["randaug_magnitude"] or 0) > 0)
    if settings.randaugment_layers:
        assert (settings.randaugment_layers, settings.randaugment_magnitude) == (2, float(row["randaug_magnitude"]))
    assert settings.mixup == float(row["mixup_p"] or 0)
    assert settings.clip == float(row["grad_clip_global_norm"] or 0)
    assert (settings.decay, str(settings.warmup)) == (row["decay"], f"{row['warmup_steps']} steps")
    assert (settings.optimizer, settings.betas) == ("adam", (0.9, 0.999))


def test_the_table_is_covered() -> None:
    names = {recipe for recipe, _, _ in published()}
    assert names == {name for name in recipe_names() if "sgd" not in name}
    assert {model for recipe, model, _ in published() if recipe == "bit-jft"} == {
        *("bit-r50x1", "bit-r50x2", "bit-r101x1", "bit-r152x1", "bit-r152x2")
    }


def test_bits_own_recipe() -> None:
    """BiT, Section 3.3: 0.03 x batch / 256, divided by ten at 10, 23, 30 and 37 of 40 epochs."""
    settings = RunSettings(model="bit-r152x4", **recipe_values("bit-sgd-jft", {"model": "bit-r152x4"}))
    assert settings.learning_rate == pytest.approx(0.03 * 4096 / 256)
    assert (settings.optimizer, settings.momentum, settings.weight_decay) == ("sgd", 0.9, 1e-4)
    total = 40 * 73_730
    edges = [d.to_steps(batch=4096, num_samples=302_000_000, total_steps=total) for d in settings.decay_at]
    assert edges == [round(total * epoch / 40) for epoch in (10, 23, 30, 37)]


@pytest.mark.parametrize("name", recipe_names())
def test_a_recipe_has_a_source_and_only_known_settings(name: str) -> None:
    recipe = load_recipe(name)
    assert "arXiv" in recipe.source
    for rule in recipe.models:
        RunSettings(model="mixer-b/32", **(recipe.settings | rule.set))


def runs(tmp_path: Path, text: str) -> list[RunSpec]:
    path = tmp_path / "sweep.yaml"
    path.write_text(SWEEP + text)
    return expand(*load_study(path))


def test_defaults_axes_and_overrides_stand_above_a_recipe(tmp_path: Path) -> None:
    (run,) = runs(
        tmp_path,
        "defaults: {recipe: mixer-jft, clip: 2.0, weight_decay: 0.5, decay: cosine}\n"
        "grid: {model: [mixer-b/32], weight_decay: [0.2]}\n"
        "overrides: [{match: {model: 'mixer-*'}, set: {decay: constant}}]\n",
    )
    settings = run.settings
    assert (settings.learning_rate, settings.clip, settings.weight_decay, settings.decay) == (
        3e-3,
        2.0,
        0.2,
        "constant",
    )


def test_a_recipe_may_be_an_axis_and_its_name_tells_the_runs_apart(tmp_path: Path) -> None:
    first, second = runs(tmp_path, "grid: {model: [vit-b/16], recipe: [vit-jft, vit-i1k]}\n")
    assert (first.settings.learning_rate, second.settings.learning_rate) == (8e-4, 3e-3)
    assert (first.axes["recipe"], second.axes["recipe"]) == ("vit-jft", "vit-i1k")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("defaults: {recipe: mixer-jtf}\ngrid: {model: [mixer-b/32]}\n", "did you mean 'mixer-jft'"),
        ("defaults: {recipe: bit-jft}\ngrid: {model: [bit-r200x3]}\n", "write learning_rate in the study"),
        (
            "grid: {model: [vit-b/16], recipe: [mixer-jft]}\n",
            "covers mixer-s/*, mixer-b/*, mixer-l/*, mixer-h/* and not",
        ),
    ],
)
def test_an_unknown_recipe_or_an_unpublished_model_is_told(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(UserError, match="recipe") as caught:
        runs(tmp_path, text)
    assert told in str(caught.value) and "sweep.yaml:" in str(caught.value)


def test_an_unpublished_model_takes_a_recipe_when_the_study_fills_the_gap(tmp_path: Path) -> None:
    (run,) = runs(tmp_path, "defaults: {recipe: bit-jft, learning_rate: 5.0e-4}\ngrid: {model: [bit-r200x3]}\n")
    assert (run.settings.learning_rate, run.settings.weight_decay) == (5e-4, 0.1)
