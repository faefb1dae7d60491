"""Data that a study says how to make: what is there is compared with what the study says."""

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from scaling.errors import UserError
from scaling.jft_like.config import JftLikeConfig
from scaling.launch.ensure_data import RECIPE, ensure_data
from scaling.spec.study import Study


def study(root: Path, **make: Any) -> Study:
    data = {"root": str(root), "train": "train.json", "val": "val.json", "make": make}
    return Study.model_validate(
        {"study": "a", "data": data, "protocol": {"kind": "constant_steps", "steps": 1, "batch": 1}}
    )


@pytest.fixture
def root(tiny_data: Path, tmp_path: Path) -> Path:
    """Manifests, with the recipe of data that was made of 2,000 images."""
    for name in ("train.json", "val.json"):
        shutil.copy(tiny_data / name, tmp_path / name)
    (tmp_path / RECIPE).write_text(json.dumps(JftLikeConfig(num_train=2000, noise=0.25).recipe()))
    return tmp_path


def test_data_as_the_study_says_is_taken(root: Path) -> None:
    ensure_data(study(root, num_train=2000, noise=0.25, seed=0, processes=3))


@pytest.mark.parametrize(
    ("make", "told"),
    [
        ({"num_train": 4000}, r"data\.make\.num_train: 4000, but the data in .* was made with 2000; name another"),
        ({"noise": 0.2}, r"data\.make\.noise: 0\.2, but .* 0\.25"),
        ({"num_train": 2000}, r"data\.make\.noise: not written, so 0\.2, but .* 0\.25; name .* or write what is there"),
        ({"num_train": 2000, "noise": "much"}, r"data\.make\.noise: 'much': it is no float; write one such as 0\.2"),
        ({"num_train": 2000, "noise": 2}, r"noise = 2\.0 .* between 0 and 1"),
        ({"num_trian": 2000}, r"data\.make\.num_trian: unknown setting .* did you mean 'num_train'"),
    ],
)
def test_data_of_other_settings_is_refused_and_left(root: Path, make: dict[str, Any], told: str) -> None:
    before = sorted(path.name for path in root.iterdir())
    with pytest.raises(UserError, match=told):
        ensure_data(study(root, **make))
    assert sorted(path.name for path in root.iterdir()) == before


def test_data_is_taken_exactly_where_the_maker_itself_would_have_nothing_to_make(root: Path) -> None:
    """Whatever is written or left out, the study takes what `scaling.data make` would call the same data set."""
    there = JftLikeConfig(num_train=2000, noise=0.25)
    for make in ({"num_train": 2000, "noise": "0.25"}, {"num_train": 2000}, {"noise": 0.25}, {}, {**asdict(there)}):
        config = JftLikeConfig(**{name: float(value) if name == "noise" else value for name, value in make.items()})
        if config.differences(there.recipe()):
            with pytest.raises(UserError, match=r"data\.make\."):
                ensure_data(study(root, **make))
        else:
            ensure_data(study(root, **make))


def test_data_of_another_version_of_the_maker_is_refused(root: Path) -> None:
    recipe = json.loads((root / RECIPE).read_text())
    (root / RECIPE).write_text(json.dumps(recipe | {"recipe_version": 0}))
    with pytest.raises(UserError, match=r"data\.make\.recipe_version"):
        ensure_data(study(root, num_train=2000, noise=0.25))


def test_data_of_another_maker_is_taken_as_it_is(root: Path) -> None:
    (root / RECIPE).unlink()
    ensure_data(study(root, num_train=4000))
