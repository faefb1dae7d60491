"""A run's name and identity: readable, stable, and changed by exactly what can change its numbers."""

import pytest

from scaling.records.identity import run_name
from tests.support.run_plans import run_plan


def test_names_read_well() -> None:
    assert run_name("mixer-b/32", 0.3, 0, {}, "1f3a9c2e77") == "mixer-b32_030pct_s0-1f3a9c2e"
    assert run_name("vit-l/16", 1.0, 2, {"learning_rate": 0.001}, "0" * 64) == (
        "vit-l16_100pct_s2_learning-rate0.001-00000000"
    )
    assert run_name("timm:resnet18.a1", 0.005, 1, {"protocol.steps": 10}, "f" * 64).startswith(
        "timm-resnet18.a1_000.5pct_s1_steps10"
    )
    assert run_name("m", 0.03, 0, {"protocol.epochs": 233.0}, "0" * 8) == "m_003pct_s0_epochs233-00000000"


def test_names_sort_by_subset_size() -> None:
    fractions = [0.005, 0.03, 0.1, 0.125, 0.3, 1.0]
    names = [run_name("m", fraction, 0, {}, "0" * 8) for fraction in fractions]
    assert names == sorted(names)


@pytest.mark.parametrize(
    "change",
    [
        {"model": "mixer-b/16"},
        {"fraction": 0.2},
        {"seed": 1},
        {"steps": 101},
        {"digest": "bb"},
        {"learning_rate": 1.1e-3},
    ],
)
def test_what_can_change_the_numbers_changes_the_identity(change: dict[str, object]) -> None:
    assert run_plan(**change).identity != run_plan().identity  # type: ignore[arg-type]


@pytest.mark.parametrize("change", [{"manifest": "/elsewhere/train.json"}, {"num_devices": 8}, {"flops": 2e6}])
def test_where_and_how_it_runs_does_not(change: dict[str, object]) -> None:
    assert run_plan(**change).identity == run_plan().identity  # type: ignore[arg-type]


def test_a_run_is_planned_alike_alone_and_beside_others(plan_tiny) -> None:
    """Also beside one whose setting is equal as a number and written otherwise."""
    together = plan_tiny("grid.weight_decay=[0.0,-0.0,0.1]", name="together")
    alone = [
        plan_tiny(f"grid.weight_decay=[{value}]", name=f"alone{number}")[0]
        for number, value in enumerate((0.0, -0.0, 0.1))
    ]
    assert [run.plan.model_dump_json() for run in together] == [run.plan.model_dump_json() for run in alone]
