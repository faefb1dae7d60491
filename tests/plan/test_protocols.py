"""Protocols and recipe settings, planned: the steps of every subset by closed forms, and what the identity covers."""

import logging
import math
import re

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


def of_rounding(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "scaling.plan.whole_steps"]


def matched(budget: float, batch: int) -> str:
    return f"protocol={{kind: matched_compute, train_flops: {budget}, batch: {batch}}}"


@pytest.mark.parametrize(("warmup", "fewest"), [("0", 1), ("2%", 2)])
def test_a_budget_below_one_step_is_refused_with_what_works(warmup: str, fewest: int, plan_tiny) -> None:
    """A run with a warm-up has two steps or more."""
    option = f"defaults.warmup={warmup}"
    with pytest.raises(UserError, match=r"--set protocol=.*: protocol\.train_flops: 1e\+09 FLOPs are less") as refused:
        plan_tiny(matched(1e9, 4096), option)
    told = re.search(r"give (\S+) or more, or a batch of (\S+) or less", str(refused.value))
    assert told
    for budget, batch in ((float(told[1]), 4096), (1e9, int(told[2]))):
        [run] = plan_tiny(matched(budget, batch), option)
        assert run.plan.schedule.steps == fewest
        assert run.plan.train_flops(fewest * batch) <= budget
    grid = "grid={model: [mixer-laptop-32px], protocol.train_flops: [1.0e+11, 1000.0]}"
    with pytest.raises(UserError, match=r"--set grid=.*: grid\.protocol\.train_flops: 1000 FLOPs") as refused:
        plan_tiny(matched(1e11, 16), grid, option)
    assert "batch of" not in str(refused.value)


def test_runs_of_one_budget_that_do_not_cost_the_same_are_told_once(
    plan_tiny, caplog: pytest.LogCaptureFixture
) -> None:
    grid = "grid={model: [mixer-laptop-32px, vit-laptop-32px, bit-laptop-32px], fraction: [0.5, 1.0]}"
    with caplog.at_level(logging.WARNING):
        plans = [run.plan for run in plan_tiny(grid, matched(2e10, 256))]
        [told] = of_rounding(caplog)
        costs = [plan.train_flops(plan.schedule.steps * 256) for plan in plans]
        assert max(costs) > 1.05 * min(costs)
        for cost in (min(costs), max(costs)):
            assert any(f"{plan.run_id} " in told for plan, one in zip(plans, costs, strict=True) if one == cost)
            assert f"{cost:.4g}" in told
        caplog.clear()
        way_out = re.search(r"a budget of (\S+) or more, or a batch of (\S+) or less", told)
        assert way_out
        plan_tiny(grid, matched(float(way_out[1]), 256))
        plan_tiny(grid, matched(2e10, int(way_out[2])))
        assert not of_rounding(caplog)


@pytest.mark.parametrize("length", ["constant_epochs, epochs: 1", "constant_steps, steps: 1 epochs"])
def test_a_length_of_less_than_half_a_step_is_refused_with_what_works(length: str, plan_tiny) -> None:
    def plan(batch: int, length: str = length):
        return plan_tiny(
            f"protocol={{kind: {length}, batch: {batch}}}", "grid.fraction=[0.1, 1.0]", "defaults.warmup=0"
        )

    with pytest.raises(
        UserError, match=r"protocol\.(epochs|steps): 1 epochs of a run's 20 images are .* batch 64"
    ) as refused:
        plan(64)
    assert "give 3.2 epochs or more, or a batch of 20 or less" in str(refused.value)
    assert plan(20)[0].plan.schedule.steps == 1
    assert plan(64, length.replace(": 1", ": 3.2"))[0].plan.schedule.epochs == 3.2


def test_examples_that_are_less_than_half_a_step_are_refused(plan_tiny) -> None:
    with pytest.raises(UserError, match="give 128 examples or more, or a batch of 15 or less"):
        plan_tiny("protocol={kind: constant_steps, steps: 31 examples, batch: 64}")


def test_passes_that_rounding_makes_others_are_told_once(plan_tiny, caplog: pytest.LogCaptureFixture) -> None:
    def plan(batch: int):
        protocol = f"protocol={{kind: constant_epochs, epochs: 1, batch: {batch}}}"
        return [run.plan for run in plan_tiny(protocol, FRACTIONS, "defaults.warmup=0")]

    with caplog.at_level(logging.WARNING):
        plans = plan(32)
        assert [plan.schedule.epochs for plan in plans] == [1.6, 1.28, 0.96]
        [told] = of_rounding(caplog)
        assert f"give {plans[0].run_id} 1.6 epochs where 1 are written, and 1 more run differs" in told
        assert "take a batch of 2 or less" in told
        caplog.clear()
        plan(2)
        plan_tiny("protocol.steps=30", FRACTIONS)
        assert not of_rounding(caplog)
        plan_tiny("protocol={kind: constant_steps, steps: 40 examples, batch: 32}", "defaults.warmup=0")
    assert "give mixer" in caplog.text and "32 examples where 40 are written" in caplog.text


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
        ("model_options={dropout: 0.0}", ""),
        ("model_options={dropout: 0, token_mlps: 1, gelu: tanh, drop_path_rescale: false, token_mlp_dim: null}", ""),
    ],
)
def test_what_cannot_is_not(option: str, user: str, plan_tiny) -> None:
    """A momentum under Adam, the body's own decay for the head, a staircase's factor without a staircase, and options
    that are the model's defaults; `user`:
    another run of the study, without which such a setting is refused."""
    others = [f"include=[{{model: mixer-laptop-32px, {user}}}]"] if user else []
    plain, *_ = plan_tiny(name="plain")
    changed, *_ = plan_tiny(f"defaults.{option}", *others, name="changed")
    assert plain.plan.identity == changed.plan.identity


@pytest.mark.parametrize(
    ("given", "axis", "is_same"),
    [
        ("{decay: constant}", "end_learning_rate: [0, 1.0e-4]", True),
        ("{decay: staircase, decay_at: [50%]}", "end_learning_rate: [0, 1.0e-4]", True),
        ("{decay: cosine}", "end_learning_rate: [0, 1.0e-4]", False),
        ("{weight_decay: 0}", "decay_scope: [kernels, all]", True),
        ("{weight_decay: 0.1, head_weight_decay: 0}", "decay_scope: [kernels, all]", False),
        ("{weight_decay: 0, head_weight_decay: 0.1}", "decay_scope: [kernels, all]", False),
        ("{}", "model_options: [{}, {dropout: 0.0}]", True),
        ("{}", "model_options: [{gelu: tanh}, {gelu: exact}]", False),
    ],
)
def test_values_that_training_does_not_read_make_one_run(given: str, axis: str, is_same: bool, plan_tiny) -> None:
    # Another run that uses the setting, without which it is refused for another reason.
    others = "include=[{model: mixer-laptop-32px, decay: linear, decay_at: [], weight_decay: 0.1, seed: 9}]"
    grid = f"grid={{model: [mixer-laptop-32px], {axis}}}"
    if is_same:
        with pytest.raises(UserError, match="are the same run"):
            plan_tiny(f"defaults={given}", grid, others)
    else:
        identities = {run.plan.identity for run in plan_tiny(f"defaults={given}", grid, others)}
        assert len(identities) == 3


def test_a_patience_that_can_stop_no_run_is_told_once(plan_tiny, caplog: pytest.LogCaptureFixture) -> None:
    """30 steps, validated every 10, and 3 validations: the second can be stale and stop the run, the third ends it."""

    def told(*options: str) -> list[str]:
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            plan_tiny(*options, "grid.seed=[0, 1]")
        return [record.getMessage() for record in caplog.records if record.name == "scaling.plan.plan_schedule"]

    assert not told() and not told("defaults.patience=1")
    [one] = told("defaults.patience=2")
    assert "defaults.patience: 2 can stop none of 2 runs" in one and "has 3 validations" in one
    assert "take 1 or less" in one
    [one] = told("defaults.patience=1", "defaults.validate_every=100%")
    assert "leave it out" in one
    assert not told("defaults.patience=3", "defaults.validate_every=6")


def test_an_exchange_on_one_device_cannot_overlap(plan_tiny) -> None:
    options = ("defaults.overlap_comm=true", "defaults.zero_stage=2")
    with pytest.raises(UserError, match=r"overlap_comm: true with launch\.devices_per_run = 1"):
        plan_tiny(*options)
    [run] = plan_tiny(*options, "launch.devices_per_run=2")
    assert run.plan.engine.overlap_comm
