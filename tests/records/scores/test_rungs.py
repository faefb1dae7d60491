"""ASHA as a pure function: the same trials are stopped whatever the order in which they come, and Ray Tune, to which
they come in the order of their numbers, stops the same ones."""

import math
from types import SimpleNamespace

from hypothesis import assume, given, settings
from hypothesis import strategies as st
from ray.tune.schedulers import ASHAScheduler

from scaling.records.scores.rungs import Climb, Verdict, judge, mean_climb, rung_steps

NUM_RUNGS = 3

scores = st.lists(
    st.lists(st.floats(0, 10, allow_subnormal=False).map(lambda score: round(score, 3)), max_size=NUM_RUNGS),
    min_size=1,
    max_size=9,
)
"""Of each trial; one with fewer than NUM_RUNGS of them fails before the next rung."""


def verdicts(climbs: list[Climb], factor: int, *, higher: bool = False) -> tuple[Verdict, ...]:
    return judge(climbs, num_rungs=NUM_RUNGS, reduction_factor=factor, higher_is_better=higher)


def whole(trials: list[list[float]], factor: int, *, higher: bool = False) -> list[int | None]:
    """Where each trial is out when all have ended."""
    found = verdicts([Climb(tuple(trial), True) for trial in trials], factor, higher=higher)
    assert all(one.is_final for one in found)
    return [one.stopped_at for one in found]


@given(scores=scores, factor=st.integers(2, 4), data=st.data())
@settings(max_examples=150, deadline=None)
def test_the_order_of_arrival_decides_nothing(scores: list[list[float]], factor: int, data: st.DataObject) -> None:
    """At every moment, what is decided stays and is what an observer says who sees everything at the end. A trial that
    is told late has gone on, or ended, meanwhile."""
    expected = whole(scores, factor)
    reached = [0] * len(scores)
    ended = [False] * len(scores)
    decided: dict[int, int | None] = {}
    while True:
        now = verdicts([Climb(tuple(s[:n]), end) for s, n, end in zip(scores, reached, ended, strict=True)], factor)
        for number, verdict in enumerate(now):
            if verdict.is_final:
                assert decided.setdefault(number, verdict.stopped_at) == verdict.stopped_at == expected[number]
        going = [number for number in range(len(scores)) if not ended[number]]
        if not going:
            break
        number = data.draw(st.sampled_from(going))
        # One that is known to be out leaves at once, or makes another step before it hears of it.
        if (now[number].stopped_at is not None and data.draw(st.booleans())) or reached[number] == len(scores[number]):
            ended[number] = True
        else:
            reached[number] += 1
    assert [decided[number] for number in range(len(scores))] == expected


@given(scores=scores, factor=st.integers(2, 4), higher=st.booleans())
@settings(max_examples=100, deadline=None)
def test_ray_tune_stops_the_same_trials(scores: list[list[float]], factor: int, higher: bool) -> None:
    scheduler = ASHAScheduler(
        metric="score", mode="max" if higher else "min", max_t=1000, grace_period=1, reduction_factor=factor
    )
    expected: list[int | None] = []
    for number, trial in enumerate(scores):
        one = SimpleNamespace(trial_id=str(number))
        scheduler.on_trial_add(None, one)
        out = None
        for rung, score in enumerate(trial):
            cutoffs = dict(scheduler._brackets[0]._rungs)[factor**rung]
            cutoff = scheduler._brackets[0].cutoff(cutoffs)
            # Ray's cut-off has the roundings of a percentile in floating point.
            assume(cutoff is None or abs(abs(cutoff) - score) > 1e-9 or cutoff == (score if higher else -score))
            result = {"training_iteration": factor**rung, "score": score}
            if scheduler.on_trial_result(None, one, result) == ASHAScheduler.STOP:
                out = rung
                break
        expected.append(out)
    assert whole(scores, factor, higher=higher) == expected


def test_a_verdict_waits_for_every_trial_before_it() -> None:
    first, second = Climb((1.0,), False), Climb((2.0,), False)
    assert verdicts([Climb((), False), second], 2)[1] == Verdict(None, is_final=False)
    assert verdicts([first, second], 2)[1] == Verdict(0, is_final=True)
    assert verdicts([Climb((), True), second], 2)[1] == Verdict(None, is_final=False), "in, up to here"
    # The second is out, so the third is compared at the second rung with the first alone.
    third = Climb((0.5, 0.9), True)
    assert verdicts([Climb((1.0, 0.8), False), second, third], 2)[2] == Verdict(1, is_final=True)


def test_a_score_that_is_no_number_is_the_worst_and_no_measure() -> None:
    assert whole([[math.nan], [1.0], [2.0], [math.nan]], 2) == [None, None, 0, 0]
    assert whole([[math.inf], [1.0]], 2) == [None, None]


def test_rungs_are_validations_before_the_last() -> None:
    assert rung_steps(1, 4, 20, 100) == (20, 80)
    assert rung_steps(2, 3, 10, 61) == (20, 60)
    assert rung_steps(1, 2, 100, 100) == ()


def test_a_trial_with_several_seeds_has_come_when_all_have() -> None:
    assert mean_climb([Climb((1.0, 3.0), False), Climb((2.0,), False)]) == Climb((1.5,), False)
    assert mean_climb([Climb((1.0, 3.0), True), Climb((2.0,), False)]) == Climb((1.5,), False)
    assert mean_climb([Climb((1.0, 3.0), False), Climb((2.0,), True)]) == Climb((1.5,), True)
