"""Protocols and recipe settings, planned: the steps of every subset by closed forms, and what the identity covers."""

import math

import pytest

from scaling.errors import UserError

FRACTIONS = "grid.fraction=[0.1, 0.25, 1.0]"


def test_constant_steps_gives_every_subset_the_same_steps(plan_tiny) -> None:
    plans = [run.plan for run in plan_tiny(FRACTIONS, "protocol.steps=30")]
    assert [plan.subset.num_samples for plan in plans] == [20, 50, 200]
    assert [plan.schedule.steps for plan in plans] == [30, 30, 30]
    assert [plan.schedule.epochs for plan in plans] == [30 * 16 / n for n in (20, 50, 200)]


def test_constant_epochs_gives_every_image_the_same_passes(plan_tiny) -> None:
    plans = [run.plan for run in plan_tiny(FRACTIONS, "protocol={kind: constant_epochs, epochs: 8, batch: 16}")]
    assert [plan.schedule.steps for plan in plans] == [8 * 20 // 16, 8 * 50 // 16, 8 * 200 // 16]


def test_matched_compute_spends_the_budget_and_never_more(plan_tiny) -> None:
    budget = 5e11
    runs = plan_tiny(
        "grid.model=[mixer-laptop-32px, vit-laptop-32px, bit-laptop-32px]",
        f"protocol={{kind: matched_compute, train_flops: {budget}, batch: 16}}",
    )
    for plan in (run.plan for run in runs):
        cost = 16 * plan.model.flops_train_per_image
        assert plan.schedule.steps == math.floor(budget / cost)
        assert budget - cost < plan.schedule.steps * cost <= budget
    assert len({run.plan.schedule.steps for run in runs}) == 3


@pytest.mark.parametrize(
    ("steps", "expected"),
    [("60", 60), ("60 steps", 60), ("480 examples", 30), ("1.6k examples", 100), ("2 epochs", 12)],
)
def test_the_length_of_a_run_takes_every_suffix(steps: str, expected: int, plan_tiny) -> None:
    """2 epochs of 100 images are 12.5 batches of 16, rounded to the even one."""
    (run,) = plan_tiny(f"protocol.steps={steps}")
    assert run.plan.schedule.steps == expected


def test_intervals_and_warm_up_take_every_suffix(plan_tiny) -> None:
    options = ("defaults.warmup=10%", "defaults.validate_every=1 epochs", "defaults.checkpoint_every=160 examples")
    (run,) = plan_tiny("protocol.steps=60", *options)
    plan = run.plan
    assert plan.schedule.warmup_steps == 6
    assert (plan.intervals.validate_steps, plan.intervals.checkpoint_steps) == (6, 10)


def test_dropout_goes_where_the_models_paper_puts_it(plan_tiny) -> None:
    for model in ("mixer-laptop-32px", "vit-laptop-32px"):
        (run,) = plan_tiny(f"grid.model=[{model}]", "defaults.dropout=0.1")
        assert run.plan.model.options == {"dropout": 0.1}
    with pytest.raises(UserError, match="'dropout' is not one of model 'bit-laptop-32px'"):
        plan_tiny("grid.model=[bit-laptop-32px]", "defaults.dropout=0.1")
    with pytest.raises(UserError, match="model_options"):
        plan_tiny("grid.model=['timm:resnet18']", "defaults.image_size=32", "defaults.dropout=0.1")


@pytest.mark.parametrize(
    "options",
    [
        ("defaults.decay=staircase",),
        ("defaults.decay_at=[10%]",),
        ("defaults.decay=staircase", "defaults.decay_at=[50%, 20%]"),
        ("defaults.decay=staircase", "defaults.decay_at=[30]"),
    ],
)
def test_a_staircase_that_is_none_is_refused(options: tuple[str, ...], plan_tiny) -> None:
    with pytest.raises(UserError, match=r"decay_at: .*30%"):
        plan_tiny(*options)


@pytest.mark.parametrize(
    "option",
    [
        *("optimizer=sgd", "head_weight_decay=0.5", "decay_scope=all", "label_smoothing=0.1", "dropout=0.1"),
        *("drop_path=0.1", "patience=3", "decay=cosine", "end_learning_rate=0"),
    ],
)
def test_what_can_change_the_numbers_is_in_the_identity(option: str, plan_tiny) -> None:
    (plain,), (changed,) = plan_tiny(name="plain"), plan_tiny(f"defaults.{option}", name="changed")
    assert plain.plan.identity != changed.plan.identity


@pytest.mark.parametrize(
    ("option", "user"),
    [
        ("non_finite=skip", ""),
        ("momentum=0.5", "optimizer: sgd"),
        ("head_weight_decay=0.1", ""),
        ("decay_factor=0.5", "decay: staircase, decay_at: [50%]"),
    ],
)
def test_what_cannot_is_not(option: str, user: str, plan_tiny) -> None:
    """A momentum under Adam, the body's own decay for the head, and a staircase's factor without a staircase; `user`:
    another run of the study, without which such a setting is refused."""
    others = [f"include=[{{model: mixer-laptop-32px, {user}}}]"] if user else []
    plain, *_ = plan_tiny(name="plain")
    changed, *_ = plan_tiny(f"defaults.{option}", *others, name="changed")
    assert plain.plan.identity == changed.plan.identity
