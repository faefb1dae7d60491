"""One run on two nodes with two processes each: by the launcher's array, by plain srun and by `slurm/train.sbatch`."""

import os
import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from scaling.launch.backends.slurm.backend import SlurmBackend
from scaling.records.attempts.attempt import latest_number, load_attempt
from scaling.records.attempts.causes import Cause
from scaling.records.attempts.ends import read_ends
from scaling.records.result import RunResult
from tests.launch.backends.slurm.conftest import StartLab
from tests.launch.backends.slurm.lab import (
    ROOT,
    Lab,
    held_at,
    is_pending,
    needs_slurm,
    train_here,
    wait_for_result,
    wait_until,
)
from tests.support.run_folders import losses

pytestmark = needs_slurm

STEPS = ("protocol.steps=8", "defaults.log_every=1", "defaults.validate_every=4", "defaults.checkpoint_every=2")

TOLERANCE = 1e-4
"""Relative, of losses under another number of processes: their sums are rounded in another order."""


def assert_close(run_dir: Path, reference: Path) -> None:
    """The loss of every step, of which the last attempt's count, and that of the kept weights."""
    mine, theirs = (losses(folder) for folder in (run_dir, reference))
    assert mine == pytest.approx(theirs, rel=TOLERANCE) and len(mine) == 8
    first, second = RunResult.load(run_dir), RunResult.load(reference)
    assert first is not None and second is not None
    assert first.metrics["upstream/loss"] == pytest.approx(second.metrics["upstream/loss"], rel=TOLERANCE)


def on_two_nodes(start_lab: StartLab, plan_tiny, tmp_path: Path, name: str) -> tuple[Lab, Path, Path]:
    """A Slurm of two nodes, a run to be trained there, and a copy of it trained by one process without Slurm."""
    [planned] = plan_tiny(*STEPS, name=name)
    reference = train_here(planned.run_dir, tmp_path / "reference")
    # The number of a job gives the port at which its processes meet, and a test beside this one has a Slurm as well.
    first_job = 1 + int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    lab = start_lab("--nodes", "2", "--cpus", "2", "--conf", f"FirstJobId={first_job}")
    return lab, planned.run_dir, reference


def test_plain_srun_on_two_nodes_of_two_processes_equals_one_process(
    start_lab: StartLab, plan_tiny, tmp_path: Path
) -> None:
    lab, run, reference = on_two_nodes(start_lab, plan_tiny, tmp_path, "plain")
    lab.run("srun", "--nodes=2", "--ntasks-per-node=2", sys.executable, "-m", "scaling.train", str(run))
    assert (latest_number(run), load_attempt(run, 1).num_devices) == (1, 4)
    assert [end.cause for end in read_ends(run).all] == [Cause.DONE]
    assert_close(run, reference)


def test_two_nodes_of_two_processes_equal_one_process_after_a_rank_was_killed(
    start_lab: StartLab, make_backend: Callable[..., SlurmBackend], plan_tiny, tmp_path: Path
) -> None:
    _, run, reference = on_two_nodes(start_lab, plan_tiny, tmp_path, "wide")
    make_backend("tasks_per_node: 2\n", nodes=2).submit([run], None)
    with held_at(run, 3) as pids:
        assert len(pids) == 4
        os.kill(pids[-1], signal.SIGKILL)
    wait_for_result(run)
    assert [end.cause for end in read_ends(run).all] == [Cause.LOST, Cause.DONE]
    assert load_attempt(run, 1).num_devices == load_attempt(run, 2).num_devices == 4
    assert_close(run, reference)


def test_the_batch_template_trains_saves_and_queues_itself_again(
    start_lab: StartLab, plan_tiny, tmp_path: Path
) -> None:
    """`slurm/train.sbatch` as it stands, but for what this machine has: no GPUs, two CPUs a node."""
    lab, run, reference = on_two_nodes(start_lab, plan_tiny, tmp_path, "template")
    options = ("--nodes=2", "--ntasks-per-node=1", "--cpus-per-task=1", "--gres=none", "--time=20", "--export=ALL")
    lab.environment["PYTHON"] = sys.executable
    log = f"--output={tmp_path}/template.log"
    answer = lab.run("sbatch", *options, log, str(ROOT / "slurm" / "train.sbatch"), str(run))
    found = re.search(r"\d+", answer)
    assert found is not None
    with held_at(run, 3) as pids:
        assert len(pids) == 2
        lab.run("scancel", "--signal=USR1", found[0], check=False)
        wait_until(lambda: all(is_pending(pid, signal.SIGUSR1) for pid in pids))
    wait_for_result(run)
    assert [end.cause for end in read_ends(run).all] == [Cause.PREEMPTED, Cause.DONE]
    assert_close(run, reference)
