"""Attacks on what a run may have: a disk that is full, few open files, little memory."""

import resource
import shutil
import subprocess
from collections.abc import Callable

import numpy as np

from tests.chaos.processes import moment, note_refusal, trainers, wait, wait_for
from tests.chaos.study import Trial
from tests.support.ranks import codes

Generator = np.random.Generator


def small_disk(trial: Trial, draw: Generator) -> None:
    """The results lie on a disk with a random rest of room, until the start has ended and somebody makes room. Who may
    not mount gets a limit of file sizes instead."""
    if not _move_to_a_disk(trial):
        small_files(trial, draw)
        return
    used = subprocess.run(["du", "-sk", str(trial.out)], capture_output=True, text=True, check=True).stdout.split()[0]
    room_kb = int(draw.choice([0, 4, 16, 64, 500, 2000, 8000]))
    _resize(trial, f"{int(used) + room_kb}k")
    if draw.random() < 0.5:
        codes(trainers(trial))
    else:
        launcher = trial.start_launcher()
        wait_for(launcher, 3 * trial.study.train_seconds)
        if launcher.process.poll() is None:
            launcher.process.terminate()
        note_refusal(trial, launcher)
    _resize(trial, "1g")


def small_files(trial: Trial, draw: Generator) -> None:
    """From a random moment on no file can grow past a random size."""
    size = int(draw.integers(0, 900_000))
    _limit(trial, draw, resource.RLIMIT_FSIZE, lambda pid: size)


def few_handles(trial: Trial, draw: Generator) -> None:
    """From a random moment on few files more can be opened, or none."""
    handles = int(draw.integers(3, 80))
    _limit(trial, draw, resource.RLIMIT_NOFILE, lambda pid: handles)


def little_memory(trial: Trial, draw: Generator) -> None:
    """From a random moment on the process may grow by up to 300 MB."""
    more = int(draw.integers(0, 300_000_000))
    _limit(trial, draw, resource.RLIMIT_AS, lambda pid: _size_of(pid) + more)


def launcher_with_little(trial: Trial, draw: Generator) -> None:
    """A launcher, and all that it starts, under a limit of open files or of file sizes."""
    kind = resource.RLIMIT_NOFILE if draw.random() < 0.5 else resource.RLIMIT_FSIZE
    limit = int(draw.integers(12, 60)) if kind == resource.RLIMIT_NOFILE else int(draw.integers(0, 900_000))
    launcher = trial.start_launcher(prepare=lambda: resource.setrlimit(kind, (limit, limit)))
    wait_for(launcher, 3 * trial.study.train_seconds)
    if launcher.process.poll() is None:
        launcher.process.terminate()
    note_refusal(trial, launcher)


LIMIT_ATTACKS: tuple[Callable[[Trial, Generator], None], ...] = (
    small_disk,
    small_files,
    few_handles,
    little_memory,
    launcher_with_little,
)


def _limit(trial: Trial, draw: Generator, kind: int, limit: Callable[[int], int]) -> None:
    ranks = trainers(trial)
    wait(ranks, moment(trial, draw))
    for rank in ranks:
        if rank.is_alive() and rank.pid is not None:
            value = limit(rank.pid)
            resource.prlimit(rank.pid, kind, (value, value))
    codes(ranks)


def _size_of(pid: int) -> int:
    """Bytes of address space."""
    with open(f"/proc/{pid}/statm") as stream:  # noqa: PTH123
        return int(stream.read().split()[0]) * resource.getpagesize()


def _move_to_a_disk(trial: Trial) -> bool:
    """Put the trial's folder on a tmpfs of its own; False where this user may not."""
    if trial.mounted:
        return True
    aside = trial.out.with_name(f"{trial.out.name}.aside")
    trial.out.rename(aside)
    trial.out.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1g", "chaos", str(trial.out)]
    trial.mounted = shutil.which("mount") is not None and not subprocess.run(mount, capture_output=True).returncode
    if trial.mounted:
        shutil.copytree(aside, trial.out, dirs_exist_ok=True, symlinks=True)
        shutil.rmtree(aside)
    else:
        trial.out.rmdir()
        aside.rename(trial.out)
    return trial.mounted


def _resize(trial: Trial, size: str) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size}", str(trial.out)], check=True)
