"""Forecasts are arithmetic on what was measured on such devices, and silence where nothing was."""

import pytest

from scaling.launch.price.forecast import RateBook, Work, remaining_seconds, state_bytes, train_flops
from scaling.launch.price.rates import LiveRates
from scaling.launch.progress import Running
from scaling.readable import count_text, short_flops, short_time
from scaling.records.evaluation import Evaluation
from scaling.records.run_plan import EvalPlan, RunPlan
from tests.support.run_plans import run_plan

SHOT = EvalPlan(kind="fewshot", name="fewshot")


def observe(rates: RateBook, plan: RunPlan, seconds: float, device: str = "A", num_devices: int | None = None) -> None:
    """The whole run took so long."""
    count = num_devices or plan.engine.num_devices
    rates.add(plan, device=device, num_devices=count, flops=train_flops(plan), seconds=seconds)


def evaluation(plan: RunPlan, seconds: float, device: str = "A") -> Evaluation:
    return Evaluation(
        run_id=plan.run_id,
        identity=plan.identity,
        name=SHOT.name,
        kind=SHOT.kind,
        digest=SHOT.digest(),
        weights_sha256="0" * 64,
        metrics={},
        device=device,
        num_devices=1,
        precision="fp32",
        threads=1,
        packages={},
        version="0",
        git_commit="",
        git_dirty=False,
        seconds=seconds,
    )


def test_a_run_of_twice_the_steps_takes_twice_as_long() -> None:
    rates = RateBook()
    observe(rates, run_plan(steps=100), 10.0)
    long = run_plan(steps=200)
    assert rates.seconds(Work(long)) == pytest.approx(20.0)
    assert rates.seconds(Work(long, share_left=0.25)) == pytest.approx(5.0)


def test_a_model_never_measured_is_scaled_by_its_flops() -> None:
    rates = RateBook()
    small, large = run_plan(flops=1e6), run_plan(model="vit-b/32", flops=3e6)
    observe(rates, small, 10.0)
    assert not rates.knows(large)
    assert rates.seconds(Work(large)) == pytest.approx(30.0)


def test_the_number_of_devices_counts() -> None:
    """Eight devices are measured as eight; of one alone they are predicted in proportion."""
    rates = RateBook()
    alone, eight = run_plan(num_devices=1), run_plan(num_devices=8)
    observe(rates, alone, 80.0)
    assert rates.seconds(Work(eight)) == pytest.approx(10.0)
    observe(rates, eight, 16.0)
    assert rates.seconds(Work(eight)) == pytest.approx(16.0)
    assert rates.seconds(Work(alone)) == pytest.approx(80.0)


def test_kinds_of_device_are_never_mixed() -> None:
    rates = RateBook()
    plan = run_plan()
    for _ in range(2):
        observe(rates, plan, 100.0, device="CPU")
    observe(rates, plan, 1.0, device="GPU")
    assert rates.device == "CPU"
    assert rates.seconds(Work(plan)) == pytest.approx(100.0)
    rates.add_evaluation(plan, evaluation(plan, 3.0, device="GPU"))
    scored = plan.model_copy(update={"evals": (SHOT,)})
    assert rates.seconds(Work(scored, share_left=0.0)) is None


def test_evaluations_are_part_of_the_time_left() -> None:
    rates = RateBook()
    plan = run_plan().model_copy(update={"evals": (SHOT,)})
    observe(rates, plan, 10.0)
    assert rates.seconds(Work(plan)) == pytest.approx(10.0)
    assert rates.seconds(Work(plan, share_left=0.0)) is None, "nothing is known of what is left"
    rates.add_evaluation(plan, evaluation(plan, 4.0))
    assert rates.seconds(Work(plan)) == pytest.approx(14.0)
    assert rates.seconds(Work(plan, share_left=0.0)) == pytest.approx(4.0)
    assert rates.seconds(Work(plan, share_left=0.0, evals_left=())) == 0.0
    other = run_plan(model="vit-b/32").model_copy(update={"evals": (SHOT,)})
    assert rates.seconds(Work(other, share_left=0.0)) == pytest.approx(4.0)


def test_nothing_measured_is_unknown_not_zero() -> None:
    assert RateBook().seconds(Work(run_plan())) is None
    assert remaining_seconds(RateBook(), [Work(run_plan())], []) is None


def test_remaining_time_divides_over_running_runs_but_never_below_the_longest_run() -> None:
    rates = RateBook()
    plan = run_plan()
    observe(rates, plan, 10.0)
    assert remaining_seconds(rates, [Work(plan)] * 2, [Work(plan)] * 2) == pytest.approx(20.0)
    assert remaining_seconds(rates, [], [Work(plan), Work(plan, 0.1)]) == pytest.approx(10.0)
    assert remaining_seconds(rates, [], [Work(plan, 0.5)]) == pytest.approx(5.0)
    assert remaining_seconds(rates, [], []) == 0.0


def test_a_resumed_run_is_timed_by_the_steps_seen(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    """At step 80 of 100 after a restart, 10 steps in 5 s: a whole run takes 50 s, not the 5.5 of 90 steps in 5 s."""
    now = 0.0
    monkeypatch.setattr("scaling.launch.price.rates.time.monotonic", lambda: now)
    plan, rates, live = run_plan(steps=100), RateBook(), LiveRates()

    def see(step: int, seconds: float, attempt: int = 2) -> None:
        nonlocal now
        now = seconds
        running = Running(tmp_path, attempt, step, 100, seconds, "", "")
        live.look(rates, plan, running)

    see(80, 100.0)
    see(85, 102.5)
    assert rates.seconds(Work(plan)) is None
    see(90, 105.0)
    assert rates.seconds(Work(plan)) == pytest.approx(50.0)
    assert rates.seconds(Work(plan, share_left=0.1)) == pytest.approx(5.0)


def test_memory_of_weights_and_optimiser() -> None:
    """4 bytes each for weight, gradient and two moments; ZeRO 1 divides the moments (arXiv 1910.02054, Section 5)."""
    alone, eight = run_plan(), run_plan(num_devices=8)
    assert state_bytes(alone) == state_bytes(eight) == 16 * 1000
    sharded = eight.model_copy(update={"engine": eight.engine.model_copy(update={"zero_stage": 1})})
    assert state_bytes(sharded) == (8 + 8 / 8) * 1000
    sgd = alone.model_copy(update={"recipe": alone.recipe.model_copy(update={"optimizer": "sgd"})})
    assert state_bytes(sgd) == 12 * 1000


def test_numbers_read_well() -> None:
    assert [count_text(n) for n in (302e6, 9.06e6, 640, 9_999, 25_600)] == ["302M", "9.06M", "640", "10k", "25.6k"]
    assert [short_flops(n) for n in (565e18, 1.3e15, 4e9)] == ["565 EFLOP", "1.3 PFLOP", "4 GFLOP"]
    assert [short_time(s) for s in (5.2, 185, 7 * 3600 + 1200, 12 * 86400 + 4 * 3600)] == [
        "5 s",
        "3 min 05 s",
        "7 h 20 min",
        "12 d 4 h",
    ]
