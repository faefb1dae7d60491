"""A real Slurm of virtual nodes for one test, started by `slurm/local/up`, and what a test does to it."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from scaling.records.result import RunResult
from scaling.records.run_dir import RunDir

ROOT = Path(__file__).parents[3]
LOCAL = ROOT / "slurm" / "local"
PATH = f"{os.environ['PATH']}:/usr/sbin:/sbin"

needs_slurm = pytest.mark.skipif(
    any(shutil.which(program, path=PATH) is None for program in ("slurmctld", "slurmd", "sbatch", "munged")),
    reason="Slurm is not installed: apt-get install --no-install-recommends slurm-wlm slurm-client",
)


class Lab:
    """One running Slurm."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = os.environ | {
            "SLURM_CONF": str(folder / "slurm.conf"),
            "PATH": PATH,
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
            "DS_ACCELERATOR": "cpu",
        }

    def run(self, *command: str, check: bool = True) -> str:
        """Output of a command that talks to this Slurm."""
        answer = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False)
        assert answer.returncode == 0 or not check, f"{command}: {answer.stdout}{answer.stderr}"
        return answer.stdout.strip()

    def states(self) -> dict[str, str]:
        """State of every job and array task that Slurm knows, by its number."""
        lines = self.run("squeue", "-h", "-t", "all", "-r", "-o", "%i|%T").splitlines()
        return dict(line.split("|") for line in lines)

    def daemon(self, name: str) -> int:
        """Process id of `slurmctld` or `slurmd.n1`."""
        return int((self.folder / "run" / f"{name}.pid").read_text())

    def start_missing(self) -> None:
        """Start the daemons that were killed."""
        subprocess.run([LOCAL / "up", "--dir", self.folder], env=self.environment, check=True, capture_output=True)

    def kill_node(self, node: str) -> None:
        """`kill -9` of everything on a node at once: its slurmd, its steps and whatever these started."""
        slurmd = self.daemon(f"slurmd.{node}")
        victims = [slurmd, *processes_of_node(node)]
        for pid in victims:
            with_signal(pid, signal.SIGSTOP)  # Nobody may notice before all are gone.
        for pid in victims:
            with_signal(pid, signal.SIGKILL)


def with_signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def processes_of_node(node: str) -> list[int]:
    """Processes that Slurm started on a virtual node, and the daemons that hold them."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            environment = (path / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if f"SLURMD_NODENAME={node}".encode() in environment:
            found.append(int(path.name))
    return found


@contextmanager
def running_lab(folder: Path, *options: str) -> Iterator[Lab]:
    """A Slurm in `folder`, ended with everything it runs."""
    started = subprocess.run([LOCAL / "up", "--dir", folder, *options], capture_output=True, text=True, check=False)
    try:
        assert started.returncode == 0, started.stderr
        yield Lab(folder)
    finally:
        subprocess.run([LOCAL / "down", folder], capture_output=True, check=False)


def wait_until(condition: Callable[[], object], seconds: float = 90, what: str = "") -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what or condition}"
        time.sleep(0.1)


TIMES = {"images_per_second", "data_wait_seconds", "memory_bytes"}
"""Metrics that measure the machine and not the model."""


def assert_same_numbers(one: Path, other: Path) -> None:
    """Bit for bit: every metric that is not a time, the kept weights and those of the last step."""
    first, second = RunResult.load(one), RunResult.load(other)
    assert first is not None and second is not None
    for name in (first.metrics.keys() | second.metrics.keys()) - TIMES:
        assert first.metrics[name] == second.metrics[name], name
    for mine, theirs in zip(_weights(one), _weights(other), strict=True):
        assert mine.keys() == theirs.keys()
        for name in mine:
            assert np.array_equal(mine[name], theirs[name]), name


def _weights(run_dir: Path) -> list[dict[str, np.ndarray]]:
    newest = max(RunDir(run_dir).checkpoints.glob("step_*"), key=lambda path: path.name)
    return [load_file(RunDir(run_dir).best_weights), load_file(newest / "state.safetensors")]
