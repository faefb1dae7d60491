"""The policy of every cause as a pure function of the attempts' ends: what is free, what is counted, what is final."""

import itertools
from collections.abc import Sequence

import pytest

from scaling.records.attempts import contract
from scaling.records.attempts.causes import COUNTED, LONGEST_DELAY_SECONDS, Cause, Verdict, cause_of_exit, decide
from scaling.records.attempts.ends import End

AFTER_ONE = {
    Cause.DONE: Verdict.FINISHED,
    Cause.BUSY: Verdict.COME_BACK_LATER,
    Cause.PREEMPTED: Verdict.RETRY_FREE,
    Cause.OUT_OF_TIME: Verdict.RETRY_FREE,
    Cause.LOST: Verdict.RETRY_COUNTED,
    Cause.NODE_FAILED: Verdict.RETRY_COUNTED,
    Cause.MACHINE_TROUBLE: Verdict.RETRY_COUNTED,
    Cause.OUT_OF_MEMORY: Verdict.RETRY_COUNTED,
    Cause.CANCELLED: Verdict.GIVE_UP,
    Cause.PRUNED: Verdict.GIVE_UP,
    Cause.FAILED: Verdict.GIVE_UP,
    Cause.DIVERGED: Verdict.GIVE_UP,
    Cause.BAD_INPUT: Verdict.GIVE_UP,
}


def ends(causes: Sequence[Cause], hosts: Sequence[str] = ("n1",)) -> list[End]:
    """One attempt per cause, each far on in training, on the hosts in turn."""
    places = itertools.cycle(hosts)
    return [
        End(attempt=n, cause=cause, step=100 * n, host=next(places), seconds=100.0, train_seconds=80.0, message="why")
        for n, cause in enumerate(causes, 1)
    ]


def verdict(causes: Sequence[Cause], retries: int) -> Verdict:
    return decide(ends(causes), retries).verdict


def test_every_cause_has_its_policy() -> None:
    assert set(AFTER_ONE) == set(Cause)
    for cause, expected in AFTER_ONE.items():
        decision = decide(ends([cause]), retries=2)
        assert decision.verdict is expected, cause
        assert "why" in decision.reason, cause
    assert decide([], retries=0).verdict is Verdict.RETRY_FREE


@pytest.mark.parametrize("cause", sorted(COUNTED - {Cause.OUT_OF_MEMORY}))
@pytest.mark.parametrize("retries", [0, 1, 3])
def test_the_budget_is_used_by_losses_alone_whatever_happens_between(cause: Cause, retries: int) -> None:
    """Any number of pre-emptions and time limits, before, between and after the losses."""
    free = [Cause.PREEMPTED, Cause.OUT_OF_TIME, *[Cause.PREEMPTED] * 4]
    for number in range(1, retries + 3):
        expected = Verdict.RETRY_COUNTED if number <= retries else Verdict.GIVE_UP
        assert verdict([*free, *[cause, *free] * (number - 1), cause], retries) is expected
    assert verdict([*[cause] * retries, *free * 5], retries) is Verdict.RETRY_FREE
    told = decide(ends([cause] * (retries + 1)), retries)
    assert f"launch.retries = {retries}" in told.reason


def test_counted_causes_share_one_budget() -> None:
    assert verdict([Cause.LOST, Cause.NODE_FAILED], 2) is Verdict.RETRY_COUNTED
    assert verdict([Cause.LOST, Cause.NODE_FAILED, Cause.MACHINE_TROUBLE], 2) is Verdict.GIVE_UP


def test_what_failed_by_itself_is_not_tried_again_however_large_the_budget() -> None:
    for cause in (Cause.FAILED, Cause.DIVERGED, Cause.BAD_INPUT, Cause.CANCELLED, Cause.PRUNED):
        assert verdict([Cause.LOST, cause], 1000) is Verdict.GIVE_UP


def test_memory_that_runs_out_twice_is_the_runs_own_need() -> None:
    assert verdict([Cause.OUT_OF_MEMORY], 9) is Verdict.RETRY_COUNTED
    twice = decide(ends([Cause.OUT_OF_MEMORY, Cause.PREEMPTED, Cause.OUT_OF_MEMORY]), 9)
    assert twice.verdict is Verdict.GIVE_UP and "micro_batch" in twice.reason


def test_trouble_of_a_machine_is_retried_elsewhere_and_later_each_time() -> None:
    hosts = ["n1", "n2", "n1", "n3"]
    delays = []
    for number in range(1, 9):
        decision = decide(ends([Cause.MACHINE_TROUBLE] * number, hosts), retries=99)
        assert decision.avoid_hosts == tuple(dict.fromkeys(hosts[:number]))
        delays.append(decision.delay_seconds)
    assert delays[:3] == [15.0, 30.0, 60.0] and delays[-1] == LONGEST_DELAY_SECONDS
    after_a_node = decide(ends([Cause.MACHINE_TROUBLE, Cause.NODE_FAILED], ["n1", "n2"]), retries=99)
    assert (after_a_node.avoid_hosts, after_a_node.delay_seconds) == (("n1", "n2"), 0.0)
    # A process that was lost says nothing against its machine, and a free end forgets none of the others.
    assert decide(ends([Cause.LOST]), retries=99).avoid_hosts == ()


def test_a_time_limit_is_free_unless_three_in_a_row_hardly_train() -> None:
    def limits(train_seconds: float, steps: Sequence[int]) -> list[End]:
        return [
            End(attempt=n, cause=Cause.OUT_OF_TIME, step=step, seconds=60.0, train_seconds=train_seconds)
            for n, step in enumerate(steps, 1)
        ]

    assert decide(limits(30.0, range(1, 50)), 0).verdict is Verdict.RETRY_FREE
    assert decide(limits(2.0, (1, 2)), 0).verdict is Verdict.RETRY_FREE
    churn = decide(limits(2.0, (1, 2, 3)), 0)
    assert churn.verdict is Verdict.GIVE_UP and "raise the time limit" in churn.reason
    assert decide(limits(30.0, (5, 5, 5)), 0).verdict is Verdict.GIVE_UP, "no step further in three attempts"
    broken = [*limits(2.0, (1, 2)), End(attempt=3, cause=Cause.PREEMPTED), *limits(2.0, (3, 4))]
    assert decide(broken, 0).verdict is Verdict.RETRY_FREE


def test_exit_codes_are_causes_and_anything_else_is_a_loss() -> None:
    known = {
        contract.DONE: Cause.DONE,
        contract.FAILED: Cause.FAILED,
        contract.BAD_INPUT: Cause.BAD_INPUT,
        contract.PREEMPTED: Cause.PREEMPTED,
        contract.BUSY: Cause.BUSY,
        contract.LOST_PARTNER: Cause.LOST,
        contract.MACHINE_TROUBLE: Cause.MACHINE_TROUBLE,
        contract.OUT_OF_MEMORY: Cause.OUT_OF_MEMORY,
    }
    assert {code: cause_of_exit(code) for code in known} == known
    assert {cause_of_exit(code) for code in (None, -9, -15, 137, 255, 77)} == {Cause.LOST}
