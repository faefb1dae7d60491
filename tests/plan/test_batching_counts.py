"""Models whose numbers depend on how a batch is divided: told apart by it, or refused where it would be chance."""

import pytest

from scaling.errors import UserError
from scaling.plan import planner
from scaling.plan.zoo_counts import ModelFacts
from scaling.records.attempts.contract import BAD_INPUT, DONE
from scaling.records.events import read_events
from scaling.records.standing import find_standing
from tests.support.ranks import codes, start_run

RESNET = ("grid.model=['timm:resnet18']", "defaults.image_size=32", "evals=[]")


@pytest.fixture
def batch_norm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counting says what it says of resnet18, without loading PyTorch."""
    facts = ModelFacts(10, 5, 100.0, 300.0, mixes_examples=True)
    monkeypatch.setattr(planner, "count_models", lambda queries: dict.fromkeys(queries, facts))


def test_batch_normalisation_is_seen_by_counting(count_here: None) -> None:
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


MIXES = ("grid.model=['timm:resnet18']", "defaults.image_size=32", "evals=[]")
DRAWS = ("defaults.drop_path=0.5",)


@pytest.mark.parametrize("options", [MIXES, DRAWS], ids=["batch normalisation", "stochastic depth"])
def test_the_identity_parts_what_the_numbers_part(options: tuple[str, ...], count_here: None, plan_tiny) -> None:
    """The reason for the micro-batch in the identity: trained, the two give other numbers, and each gives its own
    again."""
    losses = {}
    for name, micro_batch in (("whole", 16), ("half", 8), ("again", 8)):
        settings = (*options, f"defaults.micro_batch={micro_batch}", "protocol.steps=3", "defaults.log_every=1")
        (run,) = plan_tiny(*settings, name=name)
        assert codes(start_run(run.run_dir, 1)) == [DONE]
        rows = read_events(run.run_dir / "events.jsonl").events
        losses[name] = (run.plan.identity, [row.metrics["loss"] for row in rows if row.kind == "step"])
    assert losses["half"] == losses["again"]
    assert losses["whole"][0] != losses["half"][0]
    assert losses["whole"][1] != pytest.approx(losses["half"][1], rel=1e-3)


def test_a_run_bound_to_its_devices_is_refused_on_others(plan_tiny) -> None:
    (run,) = plan_tiny(*DRAWS, "launch.devices_per_run=2")
    assert codes(start_run(run.run_dir, 1)) == [BAD_INPUT]
    reason = find_standing(run.run_dir).reason
    assert "gives other numbers on 1 processes than on the 2" in reason and "launch.devices_per_run=1" in reason
