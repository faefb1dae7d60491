"""A failing process leaves at once, also where parting in order would wait for ever; who is asked takes all along."""

import time

from scaling.records.attempts.contract import FAILED, LOST_PARTNER, PREEMPTED
from scaling.records.attempts.ends import read_ends
from scaling.records.standing import find_standing
from tests.support.ranks import codes, start_run

STEPS = ("protocol.steps=400", "defaults.log_every=5steps", "defaults.checkpoint_every=5steps")


def fail_and_never_part(rank: int) -> None:
    """As with NCCL: destroying the groups waits for partners that wait for this process."""
    import deepspeed

    from scaling.train.loop import Loop

    deepspeed.comm.destroy_process_group = lambda *groups: time.sleep(600)
    edge = Loop._edge

    def fails_at_seven(self: Loop, step: int) -> bool:
        if step == 7:
            raise ValueError(f"process {rank} cannot take this step")
        return edge(self, step)

    Loop._edge = fails_at_seven  # type: ignore[method-assign]


def test_a_failure_ends_the_run_with_its_reason_though_parting_hangs(plan_tiny) -> None:
    (run,) = plan_tiny(*STEPS)
    began = time.monotonic()
    assert codes(start_run(run.run_dir, 2, fail_and_never_part), seconds=100) == [FAILED, FAILED]
    assert time.monotonic() - began < 90
    standing = find_standing(run.run_dir)
    assert standing.status == "failed"
    assert "cannot take this step" in standing.reason


def fail_before_the_records_are_open(rank: int) -> None:
    """The processes have met, and nothing that records a failure is there yet."""
    import deepspeed

    from scaling.train import session

    deepspeed.comm.destroy_process_group = lambda *groups: time.sleep(600)
    if rank == 0:

        def refuse(*words: object, **named: object) -> None:
            raise ValueError("the records cannot be opened")

        session.Recorder = refuse  # type: ignore[assignment, misc]


def test_a_failure_outside_of_the_records_ends_the_run_as_well(plan_tiny) -> None:
    (run,) = plan_tiny(*STEPS)
    began = time.monotonic()
    first, second = codes(start_run(run.run_dir, 2, fail_before_the_records_are_open), seconds=100)
    assert time.monotonic() - began < 90
    assert first == FAILED and second in (FAILED, LOST_PARTNER)
    assert "the records cannot be opened" in find_standing(run.run_dir).reason


def test_agreements_give_up_long_before_nccl_kills() -> None:
    from scaling.train.processes.process_group import AGREEMENT_SHARE, COLLECTIVE_TIMEOUT

    assert COLLECTIVE_TIMEOUT * AGREEMENT_SHARE <= COLLECTIVE_TIMEOUT / 2


def ask_the_second_and_refuse_to_wait(rank: int) -> None:
    """Only the second process is asked, at the edge of step 7; nothing may wait for an answer between two edges."""
    from scaling.train.loop import Loop
    from scaling.train.processes.process_group import Processes

    edge, save, ask = Loop._edge, Loop._save, Processes.any
    saving = []

    def asks(self: Loop, step: int) -> bool:
        if rank == 1 and step == 7:
            self._flag.reason = "asked by the test"
        return edge(self, step)

    def saves(self: Loop, step: int) -> None:
        saving.append(step)
        save(self, step)

    def waits(self: Processes, flag: bool) -> bool:
        assert saving, "a step waited for the other processes' answer"
        return ask(self, flag)

    def advance(self: Loop, *words: object) -> bool:
        Processes.any = waits  # type: ignore[method-assign]
        return step(self, *words)  # type: ignore[arg-type]

    step = Loop.advance
    Loop._edge, Loop._save, Loop.advance = asks, saves, advance  # type: ignore[method-assign]


def test_one_process_that_is_asked_takes_all_along_after_the_next_step(plan_tiny) -> None:
    (run,) = plan_tiny("protocol.steps=400", "defaults.checkpoint_every=100%", "defaults.validate_every=100%")
    assert codes(start_run(run.run_dir, 2, ask_the_second_and_refuse_to_wait)) == [PREEMPTED] * 2
    [end] = read_ends(run.run_dir).all
    assert end.step == 8
