"""Forecasts are arithmetic on what was measured, and silence where nothing was."""

import pytest

from scaling.launch.forecast import RateBook, remaining_seconds, state_bytes, train_flops
from scaling.launch.numbers import short_count, short_flops, short_time
from tests.support.run_plans import run_plan


def test_a_run_of_twice_the_steps_takes_twice_as_long() -> None:
    rates = RateBook()
    short, long = run_plan(steps=100), run_plan(steps=200)
    rates.add(short, train_flops(short), seconds=10.0)
    assert rates.seconds(long) == pytest.approx(20.0)
    assert rates.seconds(long, share_left=0.25) == pytest.approx(5.0)


def test_a_model_never_measured_is_scaled_by_its_flops() -> None:
    rates = RateBook()
    small, large = run_plan(flops=1e6), run_plan(model="vit-b/32", flops=3e6)
    rates.add(small, train_flops(small), seconds=10.0)
    assert not rates.knows(large)
    assert rates.seconds(large) == pytest.approx(30.0)


def test_nothing_measured_is_unknown_not_zero() -> None:
    assert RateBook().seconds(run_plan()) is None
    assert remaining_seconds(RateBook(), [run_plan()], [], num_slots=2) is None


def test_remaining_time_divides_over_slots_but_never_below_the_longest_run() -> None:
    rates = RateBook()
    plan = run_plan()
    rates.add(plan, train_flops(plan), seconds=10.0)
    assert remaining_seconds(rates, [plan] * 4, [], num_slots=2) == pytest.approx(20.0)
    assert remaining_seconds(rates, [plan], [], num_slots=8) == pytest.approx(10.0)
    assert remaining_seconds(rates, [], [(plan, 0.5)], num_slots=1) == pytest.approx(5.0)
    assert remaining_seconds(rates, [], [], num_slots=1) == 0.0


def test_memory_of_weights_and_optimiser() -> None:
    """4 bytes each for weight, gradient and two moments; ZeRO 1 divides the moments (arXiv 1910.02054, Section 5)."""
    alone, eight = run_plan(), run_plan(num_devices=8)
    assert state_bytes(alone) == state_bytes(eight) == 16 * 1000
    sharded = eight.model_copy(update={"engine": eight.engine.model_copy(update={"zero_stage": 1})})
    assert state_bytes(sharded) == (8 + 8 / 8) * 1000
    sgd = alone.model_copy(update={"recipe": alone.recipe.model_copy(update={"optimizer": "sgd"})})
    assert state_bytes(sgd) == 12 * 1000


def test_numbers_read_well() -> None:
    assert [short_count(n) for n in (302e6, 9.06e6, 640, 9_999, 25_600)] == ["302M", "9.06M", "640", "9,999", "25.6k"]
    assert [short_flops(n) for n in (565e18, 1.3e15, 4e9)] == ["565 EFLOP", "1.3 PFLOP", "4 GFLOP"]
    assert [short_time(s) for s in (5.2, 185, 7 * 3600 + 1200, 12 * 86400 + 4 * 3600)] == [
        "5 s",
        "3 min 05 s",
        "7 h 20 min",
        "12 d 4 h",
    ]
