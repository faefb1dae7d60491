"""What a run takes of a cluster: an override goes by what the run is, and each fits a run or is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scaling.errors import UserError
from scaling.launch.backends.slurm.profile import Profile
from scaling.launch.backends.slurm.shape import check_overrides, shape_of
from scaling.launch.study_dir import PlannedRun
from scaling.spec.document import Document
from scaling.spec.launch_spec import LaunchSpec

PlanTiny = Callable[..., list[PlannedRun]]


def with_overrides(*matches: dict[str, Any]) -> LaunchSpec:
    overrides = [{"match": match, "set": {"time": "3h"}} for match in matches]
    return LaunchSpec.model_validate({"time": "1h", "slurm": {"overrides": overrides}})


@pytest.mark.parametrize(
    "match",
    [
        {"model": "mixer-*"},
        {"seed": "0"},
        {"seed": [3, 0]},
        {"fraction": 0.5},
        {"fraction": "0.5"},
        {"image_size": 32, "model": ["vit-*", "mixer-laptop-32px"]},
    ],
    ids=str,
)
def test_an_override_goes_by_what_the_run_is(match: dict[str, Any], plan_tiny: PlanTiny) -> None:
    fitting, other = plan_tiny("grid.seed=[0, 1]", "grid.fraction=[0.5]")
    launch = with_overrides(match)
    assert shape_of(fitting.plan, launch, Profile()).minutes == 180
    expected = 60 if "seed" in match else 180
    assert shape_of(other.plan, launch, Profile()).minutes == expected
    assert shape_of(other.plan, with_overrides(), Profile()).minutes == 60


def test_an_override_that_fits_no_run_is_refused(plan_tiny: PlanTiny) -> None:
    plans = [run.plan for run in plan_tiny("grid.seed=[0, 1]")]
    document = Document(Path("sweep.yaml"), {})
    check_overrides(with_overrides({"model": "mixer-*"}, {"seed": 1}), document, plans)
    for match, told in (
        ({"model": "mixr-*"}, r"overrides\[0\]\.match: model: 'mixr-\*' fits no run: model is mixer-laptop-32px"),
        ({"seed": [1, 7]}, r"overrides\[0\]\.match\.seed\[1\]: 7 fits no run"),
    ):
        with pytest.raises(UserError, match=told):
            check_overrides(with_overrides(match), document, plans)


@pytest.mark.parametrize(
    ("match", "told"), [({"modle": "x"}, "'modle' is nothing it can match"), ({"seed": True}, "seed is not a switch")]
)
def test_a_field_that_no_override_can_match_is_refused(match: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        with_overrides(match)
