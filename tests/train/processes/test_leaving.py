"""A failing process leaves at once, also where parting in order would wait for ever."""

import time

from scaling.records.attempts.exit_codes import FAILED, LOST_PARTNER
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
