"""The attacks: what can happen to a run between its plan and its result, each drawn by a seeded generator."""

import os
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import numpy as np

from tests.chaos.study import Trial
from tests.support.ranks import codes, start_run

Attack = Callable[[Trial, np.random.Generator], None]

LONGEST_SECONDS = 6.0
"""Of undisturbed training before an attack strikes; the whole run takes about this long."""


def kill(trial: Trial, draw: np.random.Generator) -> None:
    """`kill -9` at a random moment."""
    process = _trainer(trial)
    _wait(process, draw.uniform(0, LONGEST_SECONDS))
    process.kill()
    process.join()


def ask_to_leave(trial: Trial, draw: np.random.Generator) -> None:
    """SIGTERM or SIGUSR1 at a random moment, sometimes twice."""
    process = _trainer(trial)
    for _ in range(int(draw.integers(1, 3))):
        _wait(process, draw.uniform(0, LONGEST_SECONDS / 2))
        _signal(process, signal.SIGTERM if draw.random() < 0.5 else signal.SIGUSR1)
    codes([process])


def pause_and_rival(trial: Trial, draw: np.random.Generator) -> None:
    """The holder is stopped, a rival tries the same run, the holder wakes up."""
    process = _trainer(trial)
    _wait(process, draw.uniform(0, LONGEST_SECONDS / 2))
    _signal(process, signal.SIGSTOP)
    rival = _trainer(trial)
    _wait(rival, draw.uniform(0, 2))
    _signal(process, signal.SIGCONT)
    codes([process, rival])


def race(trial: Trial, draw: np.random.Generator) -> None:
    """Two or three processes start the same run at once; some are killed."""
    processes = [_trainer(trial) for _ in range(int(draw.integers(2, 4)))]
    for process in processes:
        if draw.random() < 0.4:
            _wait(process, draw.uniform(0, 2))
            process.kill()
    codes(processes)


def kill_launcher(trial: Trial, draw: np.random.Generator) -> None:
    """`kill -9` of the launcher; its runs notice, save and leave by themselves."""
    launcher = trial.start_launcher()
    _wait_for(launcher, draw.uniform(1, 12))
    launcher.kill()
    launcher.wait()


def two_launchers(trial: Trial, draw: np.random.Generator) -> None:
    """Two launchers of the same study, a moment apart."""
    first = trial.start_launcher()
    _wait_for(first, draw.uniform(0, 3))
    second = trial.start_launcher()
    for launcher in (first, second):
        trial.check_output(launcher)


def small_disk(trial: Trial, draw: np.random.Generator) -> None:
    """From a random moment on no file can grow past a random size."""
    process = _trainer(trial)
    _wait(process, draw.uniform(0, LONGEST_SECONDS / 2))
    limit = int(draw.integers(1_000, 900_000))
    if process.is_alive() and process.pid is not None:
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (limit, limit))
    codes([process])


def flip_a_bit(trial: Trial, draw: np.random.Generator) -> None:
    """One bit of one file, as a failing disk does."""
    path = _file(trial, draw)
    content = bytearray(path.read_bytes())
    if content:
        position = int(draw.integers(len(content)))
        content[position] ^= 1 << int(draw.integers(8))
        path.write_bytes(content)
        trial.damaged.add(path.name)


def cut_off(trial: Trial, draw: np.random.Generator) -> None:
    """One file ends early, as after a power cut."""
    path = _file(trial, draw)
    os.truncate(path, int(draw.integers(path.stat().st_size + 1)))
    trial.damaged.add(path.name)


def delete(trial: Trial, draw: np.random.Generator) -> None:
    """One file is gone."""
    path = _file(trial, draw)
    path.unlink()
    trial.damaged.add(path.name)


def delete_while_running(trial: Trial, draw: np.random.Generator) -> None:
    """One file of a running run is gone."""
    process = _trainer(trial)
    _wait(process, draw.uniform(0, LONGEST_SECONDS / 2))
    path = _file(trial, draw)
    path.unlink(missing_ok=True)
    trial.damaged.add(path.name)
    codes([process])


def stray_files(trial: Trial, draw: np.random.Generator) -> None:
    """Copies that a person or an editor left behind."""
    path = _file(trial, draw)
    shutil.copy(path, path.with_name(path.name + ".bak"))
    (trial.run_dir / f".{path.name}.123.tmp").write_bytes(b"half a")
    steps = sorted((trial.run_dir / "checkpoints").glob("step_*")) if (trial.run_dir / "checkpoints").exists() else []
    if steps:
        shutil.copytree(steps[-1], steps[-1].with_name(steps[-1].name + ".bak"), dirs_exist_ok=True)


ATTACKS: tuple[Attack, ...] = (
    kill,
    ask_to_leave,
    pause_and_rival,
    race,
    kill_launcher,
    two_launchers,
    small_disk,
    flip_a_bit,
    cut_off,
    delete,
    delete_while_running,
    stray_files,
)


def _trainer(trial: Trial) -> ForkServerProcess:
    (process,) = start_run(trial.run_dir, 1)
    return process


def _file(trial: Trial, draw: np.random.Generator) -> Path:
    """A file of the run's folder, every kind of record alike; a new one where all are gone."""
    trial.run_dir.joinpath("note.txt").touch()
    files = sorted(path for path in trial.run_dir.rglob("*") if path.is_file() and path.name != "log.txt")
    return files[int(draw.integers(len(files)))]


def _wait(process: ForkServerProcess, seconds: float) -> None:
    process.join(seconds)


def _wait_for(launcher: "subprocess.Popen[str]", seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while launcher.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)


def _signal(process: ForkServerProcess, number: signal.Signals) -> None:
    if process.is_alive() and process.pid is not None:
        os.kill(process.pid, number)
