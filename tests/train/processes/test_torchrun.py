"""The same run under PyTorch's own launcher: `torchrun -m scaling.train RUN_DIR` on two gloo processes. More of them,
started by the harness itself, are in test_world_size."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from scaling.launch.study_dir import PlannedRun
from scaling.records.attempts.contract import DONE
from scaling.records.result import RunResult
from scaling.records.standing import find_standing
from tests.support.ranks import codes, start_run
from tests.support.run_folders import losses, steps_saved

RELATIVE = 1e-4
"""Of the loss: processes sum gradients in another order, and roundings grow over the steps."""


def test_torchrun_trains_the_run_of_one_process(plan_tiny: Callable[..., list[PlannedRun]]) -> None:
    options = ("protocol.steps=10", "defaults.log_every=1")
    (alone,) = plan_tiny(*options, name="alone")
    assert codes(start_run(alone.run_dir, 1)) == [DONE]
    (together,) = plan_tiny(*options, "launch.devices_per_run=2", name="together")
    assert together.plan.identity == alone.plan.identity
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [sys.executable, *launcher, "-m", "scaling.train", str(together.run_dir)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == DONE, ended.stdout[-2000:] + ended.stderr[-2000:]
    assert losses(together.run_dir) == pytest.approx(losses(alone.run_dir), rel=RELATIVE)
    result = RunResult.load(together.run_dir)
    assert result is not None and (result.num_devices, result.steps) == (2, 10)


def test_a_warning_signal_to_torchrun_saves_every_process(plan_tiny: Callable[..., list[PlannedRun]]) -> None:
    """With the options that `scaling.train --help` names; by itself torchrun dies of SIGUSR1."""
    (run,) = plan_tiny("protocol.steps=2000", "defaults.log_every=5steps", "launch.devices_per_run=2")
    options = ["--signals-to-handle", "SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1", "--shutdown-timeout", "60"]
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *options]
    with subprocess.Popen(
        [sys.executable, *launcher, "-m", "scaling.train", str(run.run_dir)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        deadline = time.monotonic() + 120
        while not steps_saved(run.run_dir) and time.monotonic() < deadline:
            time.sleep(0.1)
        process.send_signal(signal.SIGUSR1)
        assert process.wait(timeout=120) != DONE  # torchrun's own code; the records say what happened.
    standing = find_standing(run.run_dir, run.plan)
    assert standing.status == "preempted" and "SIGUSR1" in standing.reason
    assert steps_saved(run.run_dir)[-1] == standing.state.step > 0
