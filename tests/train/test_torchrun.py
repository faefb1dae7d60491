"""The same run under PyTorch's own launcher: `torchrun -m scaling.train RUN_DIR` on two and four gloo processes."""

import subprocess
import sys
from collections.abc import Callable

import pytest

from scaling.launch.study_dir import PlannedRun
from scaling.records.events import read_events
from scaling.records.exit_codes import DONE
from scaling.records.result import RunResult

RELATIVE = 1e-4
"""Of the loss: processes sum gradients in another order, and roundings grow over the steps."""


def losses(run: PlannedRun) -> list[float]:
    rows = read_events(run.run_dir / "events.jsonl").events
    return [row.metrics["loss"] for row in rows if row.kind == "step"]


def train(run: PlannedRun, world: int) -> None:
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(world)] if world > 1 else []
    command = [sys.executable, *launcher, "-m", "scaling.train", str(run.run_dir)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == DONE, ended.stdout[-2000:] + ended.stderr[-2000:]


def test_torchrun_trains_the_run_of_one_process(plan_tiny: Callable[..., list[PlannedRun]]) -> None:
    options = ("protocol.steps=10", "defaults.log_every=1")
    (alone,) = plan_tiny(*options, name="alone")
    train(alone, 1)
    for world in (2, 4):
        (together,) = plan_tiny(*options, f"launch.devices_per_run={world}", name=f"on-{world}")
        assert together.plan.identity == alone.plan.identity
        train(together, world)
        assert losses(together) == pytest.approx(losses(alone), rel=RELATIVE)
        result = RunResult.load(together.run_dir)
        assert result is not None and (result.num_devices, result.steps) == (world, 10)
