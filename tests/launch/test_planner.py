"""What planning derives from a study's settings, on the tiny real data set."""

import pytest

from scaling.errors import UserError
from scaling.records.run_plan import InputPlan


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
