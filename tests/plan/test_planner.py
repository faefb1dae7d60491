"""What planning derives from a study's settings, on the tiny real data set."""

import json
from pathlib import Path

import pytest

from scaling.errors import UserError
from scaling.plan.plan_data import StudyData
from scaling.records.run_plan import InputPlan
from scaling.spec.study import load_study
from tests.support.tiny_study import TINY_SWEEP


def test_a_permutation_is_planned_from_model_and_seed(plan_tiny) -> None:
    kinds = "grid.permute=[none, patches_and_pixels, global]"
    plans = [run.plan for run in plan_tiny(kinds, "grid.seed=[0, 1]")]
    assert [plan.input for plan in plans] == [
        InputPlan(permute=kind, patch_size=patch_size, seed=0 if kind == "none" else seed)  # type: ignore[arg-type]
        for seed in (0, 1)
        for kind, patch_size in (("none", 0), ("patches_and_pixels", 8), ("global", 0))
    ]
    assert len({plan.identity for plan in plans}) == 6
    assert plans[1].run_id.startswith("mixer-laptop-32px_050pct_s0_permutepatches-and-pixels-")


def test_a_network_without_patches_is_told_which_to_permute(plan_tiny) -> None:
    options = ["grid.model=[bit-laptop-32px]", "defaults.permute=patches_and_pixels"]
    with pytest.raises(UserError, match=r"permute_patch_size.*bit-laptop-32px has no patches of its own"):
        plan_tiny(*options)
    with pytest.raises(UserError, match=r"permute_patch_size.*5 does not divide the 32-pixel images"):
        plan_tiny(*options, "defaults.permute_patch_size=5")
    (run,) = plan_tiny(*options, "defaults.permute_patch_size=8")
    assert run.plan.input.patch_size == 8


def test_randaugment_and_mixup_are_frozen_and_told_apart(plan_tiny) -> None:
    recipes = [run.plan.recipe for run in plan_tiny("grid.randaugment_layers=[0, 2]", "grid.mixup=[0, 0.5]")]
    assert [(r.randaugment_layers, r.randaugment_magnitude, r.mixup) for r in recipes] == [
        *((0, 0.0, 0.0), (0, 0.0, 0.5), (2, 10.0, 0.0), (2, 10.0, 0.5))
    ]
    # A magnitude that nothing uses makes no other run.
    strong, _ = plan_tiny("grid.randaugment_layers=[0, 2]", "defaults.randaugment_magnitude=20", name="strong")
    assert strong.plan.recipe == recipes[0]


def test_a_run_is_named_by_the_value_that_it_has(plan_tiny) -> None:
    """And not by that of its axis, where an override replaces it."""
    override = "overrides=[{match: {learning_rate: 0.01}, set: {learning_rate: 0.05}}]"
    low, high = (run.plan for run in plan_tiny("grid.learning_rate=[0.001, 0.01]", override))
    assert (low.recipe.learning_rate, high.recipe.learning_rate) == (0.001, 0.05)
    assert "learning-rate0.001-" in low.run_id and "learning-rate0.05-" in high.run_id


def test_mixup_needs_pairs_on_every_device(plan_tiny) -> None:
    plan_tiny("defaults.mixup=0.5", "launch.devices_per_run=8")
    with pytest.raises(UserError, match=r"mixup.*16 devices takes an odd number, 1, of a batch of 16; let 32 divide"):
        plan_tiny("defaults.mixup=0.5", "launch.devices_per_run=16")


def test_a_fraction_without_an_image_is_refused(plan_tiny) -> None:
    with pytest.raises(
        UserError, match=r"grid\.fraction: 0\.002: less than half an image of the 200 of .*; take 0\.005"
    ):
        plan_tiny("grid.fraction=[0.002]")
    [run] = plan_tiny("grid.fraction=[0.005]")
    assert run.plan.subset.num_samples == 1


@pytest.mark.parametrize("root", ["/anywhere", "s3://bucket/images"])
def test_a_relative_cache_starts_at_the_sweep_or_where_set_is_given(
    root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep, here = tmp_path / "sweeps" / "tiny.yaml", tmp_path / "here"
    sweep.parent.mkdir()
    here.mkdir()
    monkeypatch.chdir(here)

    def cache_of(path: Path, *options: str) -> str:
        study, document = load_study(path, options)
        cache = StudyData(study, document).sources.access.cache
        # Of a sweep that is frozen somewhere else.
        assert document.data["data"].get("cache", "") == cache
        return cache

    text = TINY_SWEEP.format(root=json.dumps(root))
    sweep.write_text(text.replace("train: train.json", "cache: ../copies, train: train.json"))
    assert cache_of(sweep) == str(tmp_path / "copies")
    assert cache_of(sweep, "data.cache=copies") == str(here / "copies")
    assert cache_of(sweep, f"data.cache={tmp_path / 'all'}") == str(tmp_path / "all")
    with pytest.raises(UserError, match=r"data\.cache: s3://bucket/copies: .* a folder of the machine"):
        cache_of(sweep, "data.cache=s3://bucket/copies")
    sweep.write_text(text)
    assert cache_of(sweep) == ""
