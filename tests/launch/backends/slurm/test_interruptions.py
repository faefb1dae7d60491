"""Signals, a time limit and lost machines: a run ends with the numbers of one that was never interrupted."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from scaling.launch.backends.slurm.backend import SlurmBackend
from scaling.records.attempts.causes import Cause
from scaling.records.attempts.ends import read_ends
from scaling.records.ownership.stop_request import requested_stop
from tests.launch.backends.slurm.conftest import StartLab
from tests.launch.backends.slurm.lab import (
    all_held_at,
    assert_same_numbers,
    held_at,
    hold_until,
    is_pending,
    needs_slurm,
    train_here,
    wait_for_result,
    wait_until,
)

pytestmark = needs_slurm

STEPS = ("protocol.steps=30", "defaults.log_every=1", "defaults.validate_every=15", "defaults.checkpoint_every=5")


def test_two_signals_and_a_time_limit_change_no_number(
    start_lab: StartLab, make_backend: Callable[..., SlurmBackend], plan_tiny, tmp_path: Path
) -> None:
    [planned] = plan_tiny(*STEPS, name="signals")
    run = planned.run_dir
    reference = train_here(run, tmp_path / "reference")
    lab = start_lab("--nodes", "1")
    # Slurm looks for jobs to warn each half minute, and then at those that the next look would find too late.
    [handle] = make_backend("save_before: 5s\n", time="1m").submit([run], None)
    assert handle.job is not None
    for step in (3, 10):
        with held_at(run, step) as [pid]:
            lab.run("scancel", "--signal=USR1", handle.job, check=False)
            wait_until(lambda: is_pending(pid, signal.SIGUSR1))
        wait_until(lambda: read_ends(run).all[-1:] and read_ends(run).all[-1].step >= step)  # noqa: B023
    with held_at(run, 17) as [pid]:
        hold_until(lambda: is_pending(pid, signal.SIGUSR1), run, pid, 70, "the warning before the time limit")
    wait_for_result(run)
    ends = read_ends(run).all
    assert len(ends) >= 4 and all(end.code in (0, 3) for end in ends), ends
    assert {end.cause for end in ends[:-1]} <= {Cause.PREEMPTED, Cause.OUT_OF_TIME}
    assert ends[-1].cause is Cause.DONE
    assert_same_numbers(reference, run)


def test_a_killed_process_a_shot_node_and_a_restarted_controller(
    start_lab: StartLab, make_backend: Callable[..., SlurmBackend], plan_tiny, tmp_path: Path
) -> None:
    runs = [run.run_dir for run in plan_tiny(*STEPS, "grid.seed=[0, 1]", name="losses")]
    reference = train_here(runs[0], tmp_path / "reference")
    lab = start_lab("--nodes", "2", "--cpus", "1", "--conf", "SlurmdTimeout=10")
    backend = make_backend()
    backend.submit(runs, None)
    with all_held_at(runs, 7) as held:
        wait_until(lambda: lab.has_saved_start("n1") and lab.has_saved_start("n2"), 30)
        os.kill(lab.daemon("slurmctld"), signal.SIGKILL)
        looks = backend.poll(tmp_path / "losses")
        assert {look.phase for look in looks.values()} == {"unknown"}
        [process] = held[runs[1]]
        os.kill(process, signal.SIGKILL)
        time.sleep(0.5)
        lab.start_missing()
        lab.kill_node(backend.poll(tmp_path / "losses")[runs[0]].where.split()[0])
    for run in runs:
        wait_for_result(run)
    causes = [[end.cause for end in read_ends(run).all] for run in runs]
    assert causes[1] == [Cause.LOST, Cause.DONE]
    assert causes[0] == [Cause.NODE_FAILED, Cause.DONE]
    assert_same_numbers(reference, runs[0])


def test_a_controller_that_has_forgotten_the_start_cancels_nothing(
    start_lab: StartLab, make_backend: Callable[..., SlurmBackend], plan_tiny
) -> None:
    [planned] = plan_tiny(*STEPS, name="forgotten")
    run = planned.run_dir
    lab = start_lab("--nodes", "1", "--cpus", "1")
    make_backend().submit([run], None)
    wait_until(lab.saved_jobs().exists)
    before = lab.saved_jobs().read_bytes()
    assert not lab.has_saved_start("n1")
    with held_at(run, 7) as [process]:
        os.kill(lab.daemon("slurmctld"), signal.SIGKILL)
        os.kill(process, signal.SIGKILL)
        lab.saved_jobs().with_suffix(".old").unlink(missing_ok=True)
        lab.saved_jobs().write_bytes(before)
        lab.start_missing()
    wait_until(lambda: read_ends(run).all)
    # Slurm calls the job pending while its end is noted; on a busy machine it may have started it again by then.
    assert read_ends(run).all[0].cause in (Cause.PREEMPTED, Cause.LOST)
    assert requested_stop(run) is None
