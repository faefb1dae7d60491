"""Processes that meet at one address are those of one start: what else comes there is refused and changes no number."""

import logging
import time
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import pytest

from scaling.launch.study_dir import PlannedRun
from scaling.records.attempts.causes import Cause
from scaling.records.attempts.contract import DONE, MACHINE_TROUBLE
from scaling.records.attempts.ends import read_ends
from scaling.records.attempts.rank_failures import read_failures
from tests.support.ranks import Prepare, codes, free_port, start_rank, start_run
from tests.support.run_folders import losses

PlanTiny = Callable[..., list[PlannedRun]]


def ended(process: ForkServerProcess) -> int | None:
    [code] = codes([process])
    return code


def plan_two(plan_tiny: PlanTiny, name: str) -> list[Path]:
    runs = plan_tiny("grid.seed=[0, 1]", "launch.devices_per_run=2", "protocol.steps=6", name=name)
    return [run.run_dir for run in runs]


def test_a_process_of_another_run_is_refused_and_changes_nothing(plan_tiny: PlanTiny) -> None:
    [reference, _] = plan_two(plan_tiny, "reference")
    assert codes(start_run(reference, 2)) == [DONE, DONE]
    [run, other] = plan_two(plan_tiny, "met")
    port = free_port()
    first = start_rank(run, 0, 2, port)
    assert ended(start_rank(other, 1, 2, port)) == MACHINE_TROUBLE
    [said] = read_failures(other)
    assert said.cause is Cause.MACHINE_TROUBLE
    assert f"was started for {other.name} of" in said.message and f"are of {run.name} of" in said.message
    assert "MASTER_PORT" in said.message
    assert first.exitcode is None
    assert codes([first, start_rank(run, 1, 2, port)]) == [DONE, DONE]
    assert losses(run) == losses(reference) and losses(run)


def test_a_rank_that_is_started_twice_is_there_once(plan_tiny: PlanTiny) -> None:
    [run, _] = plan_two(plan_tiny, "twice")
    port = free_port()
    twins = [start_rank(run, 1, 2, port) for _ in range(2)]
    first = start_rank(run, 0, 2, port)
    assert sorted(map(str, codes([first, *twins]))) == sorted(map(str, [DONE, DONE, MACHINE_TROUBLE]))
    assert [end.cause for end in read_ends(run).all] == [Cause.DONE]


def other_torch(rank: int) -> None:
    from scaling.train.processes import meeting

    found = meeting.describe_packages()
    if rank == 1:
        meeting.describe_packages = lambda: {**found, "torch": "2.0.0"}  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("prepare", "world", "told"),
    [(other_torch, 2, "has torch 2.0.0, the first one on"), (None, 3, "has number of processes 3, the first one on")],
    ids=["software", "number"],
)
def test_a_partner_that_does_not_fit_ends_both_with_its_words(
    plan_tiny: PlanTiny, prepare: Prepare | None, world: int, told: str
) -> None:
    [run, _] = plan_two(plan_tiny, "unlike")
    port = free_port()
    began = time.monotonic()
    processes = [start_rank(run, 0, 2, port, prepare), start_rank(run, 1, world, port, prepare)]
    assert codes(processes) == [MACHINE_TROUBLE, MACHINE_TROUBLE]
    assert time.monotonic() - began < 60, "the first process waited for one that will not come"
    [end] = read_ends(run).all
    assert end.cause is Cause.MACHINE_TROUBLE and told in end.message


def impatient(rank: int, seconds: float, log: Path) -> None:
    from scaling.train.processes import meeting, process_group

    meeting.TOLD_EVERY_SECONDS = 0.5
    process_group.COLLECTIVE_TIMEOUT = timedelta(seconds=seconds)
    logging.getLogger("scaling").addHandler(logging.FileHandler(log))


def test_the_first_process_says_for_whom_it_waits(plan_tiny: PlanTiny, tmp_path: Path) -> None:
    [run, other] = plan_two(plan_tiny, "waits")
    port, log = free_port(), tmp_path / "log.txt"
    first = start_rank(run, 0, 2, port, partial(impatient, seconds=120, log=log))
    words = f"of 2 processes number 1 have not come to 127.0.0.1:{port} yet"
    deadline = time.monotonic() + 60
    while not log.exists() or words not in log.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert codes([first, start_rank(run, 1, 2, port)]) == [DONE, DONE]

    assert ended(start_rank(other, 0, 2, free_port(), partial(impatient, seconds=2, log=log))) == MACHINE_TROUBLE
    [end] = read_ends(other).all
    assert end.cause is Cause.MACHINE_TROUBLE
    assert "of 2 processes number 1 did not come to" in end.message and "within 2 s" in end.message
