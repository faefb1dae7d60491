"""A real Slurm of virtual nodes for one test, started by `slurm/local/up`, and what a test does to it."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from scaling.records.attempts.attempt import latest_number
from scaling.records.attempts.causes import Cause
from scaling.records.attempts.ends import read_ends
from scaling.records.events import read_events
from scaling.records.result import RunResult
from scaling.records.run_dir import RunDir
from tests.support.ranks import codes, start_run

ROOT = Path(__file__).parents[4]
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

    def saved_jobs(self) -> Path:
        """What a controller that starts knows of jobs. It is written five seconds after the last time at the earliest:
        a controller that is killed before has forgotten what happened since."""
        return self.folder / "state" / "job_state"

    def has_saved_start(self, node: str) -> bool:
        """Whether a controller that starts knows of a job on this node."""
        return f"{node}\0".encode() in self.saved_jobs().read_bytes()

    def start_missing(self) -> None:
        """Start the daemons that were killed."""
        subprocess.run([LOCAL / "up", "--dir", self.folder], env=self.environment, check=True, capture_output=True)

    def kill_node(self, node: str) -> None:
        """`kill -9` of everything on a node at once: its slurmd, its steps and whatever these started."""
        slurmd = self.daemon(f"slurmd.{node}")
        victims = [slurmd, *self.processes_of_node(node)]
        for pid in victims:
            with_signal(pid, signal.SIGSTOP)  # Nobody may notice before all are gone.
        for pid in victims:
            with_signal(pid, signal.SIGKILL)

    def processes_of_node(self, node: str) -> list[int]:
        """Processes that this Slurm started on a virtual node, and the step daemons that hold them; tests beside this
        one have nodes of the same name."""
        marks = {f"SLURMD_NODENAME={node}".encode(), f"SLURM_CONF={self.environment['SLURM_CONF']}".encode()}
        found = set()
        for path in Path("/proc").glob("[0-9]*"):
            try:
                if marks <= set((path / "environ").read_bytes().split(b"\0")):
                    found |= {int(path.name), *_step_daemons(int(path.name))}
            except OSError:
                continue
        return sorted(found)


def with_signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def _step_daemons(pid: int) -> Iterator[int]:
    """The slurmstepd processes above a process."""
    while pid > 1:
        _, _, fields = (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")
        pid = int(fields.split()[1])
        if (Path("/proc") / str(pid) / "comm").read_text().startswith("slurmstepd"):
            yield pid


def training_processes(run_dir: Path) -> list[int]:
    """Process ids of the tasks that train a run now."""
    wanted, found = os.fsencode(str(run_dir)), []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            command = (path / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if command[1:4] == [b"-m", b"scaling.train", wanted]:
            found.append(int(path.name))
    return sorted(found)


@contextmanager
def held_at(run_dir: Path, step: int) -> Iterator[list[int]]:
    """Hold a run's processes still at the first step from `step` on, however fast the machine is: what is done to them
    inside happens in mid-run. Yields their process ids."""
    with all_held_at([run_dir], step) as held:
        yield held[run_dir]


@contextmanager
def all_held_at(run_dirs: Sequence[Path], step: int) -> Iterator[dict[Path, list[int]]]:
    """The same of several runs, each held when it comes there, whichever is the first."""
    held: dict[Path, list[int]] = {}

    def hold_those_there() -> bool:
        for run_dir in run_dirs:
            if run_dir not in held and last_step(run_dir) >= step:
                held[run_dir] = training_processes(run_dir)
                for pid in held[run_dir]:
                    with_signal(pid, signal.SIGSTOP)
        return len(held) == len(run_dirs)

    try:
        wait_until(hold_those_there, 180, f"step {step} of {', '.join(run.name for run in run_dirs)}", interval=0.005)
        assert all(held.values()), "a run ended before it could be held"
        yield held
    finally:
        for pid in [pid for pids in held.values() for pid in pids]:
            with_signal(pid, signal.SIGCONT)


def last_step(run_dir: Path) -> int:
    """The newest step of the newest attempt, as far as the run has told."""
    events = read_events(RunDir(run_dir).events).events
    steps = [event.step for event in events if event.attempt == events[-1].attempt]
    return steps[-1] if steps and latest_number(run_dir) == events[-1].attempt else -1


def is_pending(pid: int, number: int) -> bool:
    """Whether a stopped process has a signal waiting, or is gone because it came before it was stopped."""
    try:
        lines = (Path("/proc") / str(pid) / "status").read_text().splitlines()
    except FileNotFoundError:
        return True
    masks = [int(line.split()[1], 16) for line in lines if line.startswith(("SigPnd", "ShdPnd"))]
    return any(mask >> (number - 1) & 1 for mask in masks)


def hold_until(condition: Callable[[], object], run_dir: Path, pid: int, seconds: float, what: str) -> None:
    """Wait while a process is held, and let it run for the moment that it needs to renew its lease in time."""
    held = time.monotonic()

    def renews() -> object:
        nonlocal held
        if time.monotonic() - held > 16 and RunDir(run_dir).lease.exists():
            before = RunDir(run_dir).lease.stat().st_mtime_ns
            with_signal(pid, signal.SIGCONT)
            wait_until(lambda: RunDir(run_dir).lease.stat().st_mtime_ns != before, 60, "renewal", interval=0.001)
            with_signal(pid, signal.SIGSTOP)
            held = time.monotonic()
        return condition()

    wait_until(renews, seconds, what)


def wait_for_result(run_dir: Path, seconds: float = 180) -> None:
    """Until a run has its result and its last end."""

    def has_ended() -> bool:
        ends = read_ends(run_dir).all
        return RunDir(run_dir).result.exists() and bool(ends) and ends[-1].cause is Cause.DONE

    wait_until(has_ended, seconds, f"result of {run_dir.name}")


@contextmanager
def running_lab(folder: Path, *options: str) -> Iterator[Lab]:
    """A Slurm in `folder`, ended with everything it runs."""
    started = subprocess.run([LOCAL / "up", "--dir", folder, *options], capture_output=True, text=True, check=False)
    try:
        assert started.returncode == 0, started.stderr
        yield Lab(folder)
    finally:
        subprocess.run([LOCAL / "down", folder], capture_output=True, check=False)


def wait_until(condition: Callable[[], object], seconds: float = 120, what: str = "", interval: float = 0.1) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what or condition}"
        time.sleep(interval)


def train_here(run_dir: Path, copy: Path) -> Path:
    """A copy of a run, trained on this machine without Slurm, with as many threads as a task of the test's jobs."""
    shutil.copytree(run_dir, copy)
    assert codes(start_run(copy, 1, _one_thread)) == [0], (copy / "log.txt").read_text()
    return copy


def _one_thread(rank: int) -> None:
    import torch

    torch.set_num_threads(1)


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
