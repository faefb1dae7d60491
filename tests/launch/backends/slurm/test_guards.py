"""Runs that get nowhere: a time limit that leaves no time to train, and a process that hangs."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

from scaling.launch.backends.slurm.backend import SlurmBackend
from scaling.records.attempts.attempt import latest_number
from scaling.records.attempts.causes import Cause
from scaling.records.attempts.ends import read_ends
from scaling.records.standing import find_standing
from scaling.records.state import Status
from tests.launch.backends.slurm.conftest import StartLab
from tests.launch.backends.slurm.lab import (
    last_step,
    needs_slurm,
    training_processes,
    wait_for_result,
    wait_until,
)

pytestmark = needs_slurm

STEPS = ("protocol.steps=30", "defaults.log_every=1", "defaults.validate_every=15", "defaults.checkpoint_every=15")


def test_a_run_that_never_fits_its_time_limit_ends_with_a_sentence(
    start_lab: StartLab, make_backend: Callable[..., SlurmBackend], plan_tiny
) -> None:
    [planned] = plan_tiny("protocol.steps=5000", name="churn")
    run = planned.run_dir
    lab = start_lab("--nodes", "1")
    backend = make_backend("save_before: 59s\n", time="1m")
    [handle] = backend.submit([run], None)
    assert handle.job is not None
    for attempt in (1, 2, 3):
        # The warning of a limit that is as short as the start-up: it comes while PyTorch is imported.
        wait_until(lambda: latest_number(run) >= attempt)  # noqa: B023
        if len(read_ends(run).all) < attempt:
            lab.run("scancel", "--signal=USR1", handle.job, check=False)
        wait_until(lambda: len(read_ends(run).all) >= attempt)  # noqa: B023
    wait_until(lambda: backend.poll(run.parent)[run].phase == "ended")
    ends = read_ends(run).all
    assert [end.cause for end in ends] == [Cause.OUT_OF_TIME] * 3
    standing = find_standing(run)
    assert standing.status is Status.FAILED
    assert "reached its time limit 3 times in a row" in standing.reason
    assert "raise the time limit" in standing.reason


def test_a_run_that_hangs_is_named_asked_killed_and_queued_again(
    start_lab: StartLab, make_backend: Callable[..., SlurmBackend], plan_tiny
) -> None:
    [planned] = plan_tiny(*STEPS, name="hangs")
    run = planned.run_dir
    start_lab("--nodes", "1")
    backend = make_backend(hung_after="25s")
    [handle] = backend.submit([run], None)
    assert handle.job is not None
    wait_until(lambda: last_step(run) >= 3, interval=0.005)
    [pid] = training_processes(run)
    os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: backend.poll(run.parent)[run].phase == "running")
    wait_until(lambda: backend.poll(run.parent)[run].is_stuck, 60, "the launcher's word")
    assert "its heartbeat has stood still for" in backend.poll(run.parent)[run].reason
    wait_for_result(run)
    ends = read_ends(run).all
    assert [end.cause for end in ends] == [Cause.LOST, Cause.DONE]
    log = next(Path(run.parent / "jobs" / "logs").glob("*_log.out")).read_text()
    assert "it hangs; asked to save" in log and "its processes are killed" in log
