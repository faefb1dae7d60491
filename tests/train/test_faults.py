"""Real faults: a process that dies, one that hangs, one that fails, a disk that refuses to take more."""

import datetime
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from scaling.records.attempts.contract import DONE, FAILED, LOST_PARTNER, PREEMPTED
from scaling.records.events import read_events
from scaling.records.result import RunResult
from scaling.records.standing import find_standing
from scaling.records.state import RunState, Status
from tests.support.ranks import codes, start_run
from tests.support.run_folders import starts, steps_saved, wait_for_checkpoint

LONG = ("protocol.steps=400", "defaults.log_every=5steps", "defaults.checkpoint_every=5steps")


def give_up_soon(rank: int) -> None:
    """Take a partner for lost after four seconds instead of twenty minutes."""
    from scaling.train.processes import process_group

    process_group.COLLECTIVE_TIMEOUT = datetime.timedelta(seconds=4)


def fail_on_the_second(rank: int) -> None:
    """Something that only one process meets, such as a shard that its node cannot read."""
    from scaling.train.loop import Loop

    if rank == 1:
        edge = Loop._edge

        def fails_at_seven(self: Loop, step: int) -> bool:
            if step == 7:
                raise FileNotFoundError("shard-003.tar")
            return edge(self, step)

        Loop._edge = fails_at_seven  # type: ignore[method-assign]


def refuse_weights(rank: int) -> None:
    """No file may grow past 100 kB: not even the weights fit."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))


def refuse_large_files(rank: int) -> None:
    """The kernel refuses to let any file grow past 700 kB: the weights fit, weights with optimiser state do not."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (700_000, 700_000))


def test_a_killed_process_leaves_nothing_in_the_temporary_folder(plan_tiny, tmp_path: Path) -> None:
    (run,) = plan_tiny(*LONG)
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    command = [sys.executable, "-m", "scaling.train", str(run.run_dir)]
    with subprocess.Popen(command, env=os.environ | {"TMPDIR": str(temporary)}) as process:
        wait_for_checkpoint(run.run_dir, 10)
        process.kill()
    # PyTorch's cache of compiled code, of which there is one for each user.
    assert [path.name for path in temporary.iterdir() if not path.name.startswith("torchinductor_")] == []


@pytest.mark.parametrize("victim", [0, 1])
def test_a_dead_process_ends_the_attempt_and_the_run_goes_on(victim: int, plan_tiny) -> None:
    (run,) = plan_tiny(*LONG)
    processes = start_run(run.run_dir, 2)
    wait_for_checkpoint(run.run_dir, 10)
    processes[victim].kill()
    ended = codes(processes, seconds=60)
    assert ended[victim] == -signal.SIGKILL
    assert ended[1 - victim] == LOST_PARTNER
    # Rank 0 writes the state. When it was killed the state is stale, and the standing still says that the run was lost.
    standing = find_standing(run.run_dir)
    assert (standing.status, standing.is_alive, standing.has_ended) == (Status.PREEMPTED, False, False)
    assert standing.reason, "why the run is not done is said for either victim"
    if victim == 1:
        assert "died or stayed silent" in RunState.load(run.run_dir).error
    assert codes(start_run(run.run_dir, 2, stop_at_once)) == [PREEMPTED, PREEMPTED]
    first, second = starts(run.run_dir)
    assert first == 0 and second >= 10


def test_a_process_that_hangs_is_given_up_after_the_timeout(plan_tiny) -> None:
    (run,) = plan_tiny(*LONG)
    processes = start_run(run.run_dir, 2, give_up_soon)
    wait_for_checkpoint(run.run_dir, 10)
    assert processes[1].pid is not None
    os.kill(processes[1].pid, signal.SIGSTOP)
    assert codes(processes[:1], seconds=30) == [LOST_PARTNER]
    processes[1].kill()
    processes[1].join()
    assert RunState.load(run.run_dir).status == "preempted"


def test_a_failure_of_one_process_is_told_by_the_run(plan_tiny) -> None:
    (run,) = plan_tiny(*LONG)
    assert codes(start_run(run.run_dir, 2, fail_on_the_second)) == [FAILED, FAILED]
    state = RunState.load(run.run_dir)
    assert state.status == "failed"
    assert state.error == "process 1: FileNotFoundError: shard-003.tar"
    assert read_events(run.run_dir / "events.jsonl").events[-1].kind == "failed"


def test_a_checkpoint_that_does_not_fit_costs_a_warning_and_not_the_run(plan_tiny) -> None:
    (free,) = plan_tiny(name="free")
    (full,) = plan_tiny(name="full")
    assert codes(start_run(free.run_dir, 1)) == [DONE]
    assert codes(start_run(full.run_dir, 1, refuse_large_files)) == [DONE]
    log = (full.run_dir / "log.txt").read_text()
    assert "could not be written" in log and "training continues" in log
    assert list((full.run_dir / "checkpoints").iterdir()) == [full.run_dir / "checkpoints" / "best"]
    results = [RunResult.load(run.run_dir) for run in (free, full)]
    assert results[0] is not None and results[1] is not None
    assert results[0].metrics["upstream/loss"] == results[1].metrics["upstream/loss"]


def test_best_weights_that_do_not_fit_end_the_run_which_goes_on_when_they_do(plan_tiny) -> None:
    """Without them it would end with other weights than on a disk with room."""
    (free,) = plan_tiny(name="free")
    (full,) = plan_tiny(name="full")
    assert codes(start_run(free.run_dir, 1)) == [DONE]
    assert codes(start_run(full.run_dir, 1, refuse_weights)) == [FAILED]
    error = RunState.load(full.run_dir).error
    assert "the best weights" in error and "could not be written" in error
    assert "checkpoint" in error and "make room" in error
    assert codes(start_run(full.run_dir, 1)) == [DONE]
    results = [RunResult.load(run.run_dir) for run in (free, full)]
    assert results[0] is not None and results[1] is not None
    assert results[0].metrics["upstream/loss"] == results[1].metrics["upstream/loss"]


def test_a_full_disk_keeps_what_was_saved_and_names_it_when_the_run_must_leave(plan_tiny) -> None:
    (run,) = plan_tiny(*LONG)
    (process,) = start_run(run.run_dir, 1)
    wait_for_checkpoint(run.run_dir, 10)
    assert process.pid is not None
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (700_000, 700_000))
    saved = steps_saved(run.run_dir)[-1]
    process.terminate()
    assert codes([process]) == [FAILED]
    state = RunState.load(run.run_dir)
    assert "could not be written" in state.error and "make room" in state.error
    kept = steps_saved(run.run_dir)[-1]
    assert kept >= saved
    assert not list((run.run_dir / "checkpoints").glob(".*"))
    assert codes(start_run(run.run_dir, 1, stop_at_once)) == [PREEMPTED]
    assert starts(run.run_dir) == [0, kept]


def stop_at_once(rank: int) -> None:
    """Asked to leave from the beginning."""
    from scaling.train.processes.preemption import PreemptionFlag

    PreemptionFlag.is_up = property(lambda self: True)  # type: ignore[assignment]
