"""Models whose numbers depend on how a batch is divided: told apart by it, or refused where it would be chance."""

import pytest

from scaling.errors import UserError
from scaling.plan import planner
from scaling.plan.zoo_counts import ModelFacts

RESNET = ("grid.model=['timm:resnet18']", "defaults.image_size=32", "evals=[]")


@pytest.fixture
def batch_norm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counting says what it says of resnet18, without loading PyTorch."""
    facts = ModelFacts(10, 5, 100.0, 300.0, mixes_examples=True)
    monkeypatch.setattr(planner, "count_models", lambda queries: dict.fromkeys(queries, facts))


def test_batch_normalisation_is_seen_by_counting() -> None:
    from scaling.plan.count_models import count
    from scaling.plan.zoo_counts import ModelQuery

    resnet, dropped = count(
        [ModelQuery("timm:resnet18", 32, 4), ModelQuery("timm:resnet18", 32, 4, '{"drop_rate":0.1}')]
    )
    assert resnet.mixes_examples and not resnet.draws
    assert dropped.draws


def test_batch_normalisation_makes_the_micro_batch_part_of_the_identity(batch_norm: None, plan_tiny) -> None:
    (whole,) = plan_tiny(*RESNET, "defaults.micro_batch=16", name="whole")
    (half,) = plan_tiny(*RESNET, "defaults.micro_batch=8", name="half")
    assert whole.plan.engine.batching_counts == "micro_batch"
    assert whole.plan.identity != half.plan.identity


def test_batch_normalisation_over_devices_and_an_automatic_micro_batch_are_refused(batch_norm: None, plan_tiny) -> None:
    with pytest.raises(UserError, match=r"batch normalisation.*2 devices of a run; train it on one"):
        plan_tiny(*RESNET, "launch.devices_per_run=2")
    with pytest.raises(UserError, match=r"micro_batch: 'auto' depends on the memory.*batch normalisation"):
        plan_tiny(*RESNET, "defaults.micro_batch=auto")


@pytest.mark.parametrize(
    ("option", "counts"), [("drop_path=0.1", "micro_batch"), ("mixup=0.5", "devices"), ("seed=0", "no")]
)
def test_draws_are_bound_to_the_division_of_a_batch(option: str, counts: str, plan_tiny) -> None:
    plans = [plan_tiny(f"defaults.{option}", f"launch.devices_per_run={n}", name=f"on-{n}")[0].plan for n in (1, 2)]
    assert [plan.engine.batching_counts for plan in plans] == [counts] * 2
    assert (plans[0].identity != plans[1].identity) == (counts != "no")


def test_dropout_of_the_models_own_options_counts(plan_tiny) -> None:
    (run,) = plan_tiny("defaults.dropout=0.1")
    assert run.plan.engine.batching_counts == "micro_batch"
