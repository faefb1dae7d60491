"""Attacks on processes: kills, requests to leave, pauses and races of launchers, keepers and runs."""

import contextlib
import os
import signal
import time
from collections.abc import Callable, Sequence
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import numpy as np

from tests.chaos.study import Launcher, Trial
from tests.support.ranks import codes, start_run

Generator = np.random.Generator

LONG_PAUSE_SECONDS = 33.0
"""More than half a lease: its holder may not write any more."""


def kill(trial: Trial, draw: Generator) -> None:
    """`kill -9` of one process of a run at a random moment; its partners leave by themselves."""
    ranks = trainers(trial)
    wait(ranks, moment(trial, draw))
    ranks[int(draw.integers(len(ranks)))].kill()
    codes(ranks)


def ask_to_leave(trial: Trial, draw: Generator) -> None:
    """SIGTERM or SIGUSR1 at a random moment, sometimes twice."""
    ranks = trainers(trial)
    for _ in range(int(draw.integers(1, 3))):
        wait(ranks, moment(trial, draw) / 2)
        signal_all(ranks, signal.SIGTERM if draw.random() < 0.5 else signal.SIGUSR1)
    codes(ranks)


def pause_and_rival(trial: Trial, draw: Generator) -> None:
    """The holder is stopped, a rival tries the same run, the holder wakes up; now and then after its lease ran out."""
    first = trainers(trial)
    wait(first, moment(trial, draw))
    signal_all(first, signal.SIGSTOP)
    rival = trainers(trial)
    wait(rival, draw.uniform(0, 2) if draw.random() < 0.9 else LONG_PAUSE_SECONDS)
    signal_all(first, signal.SIGCONT)
    codes([*first, *rival])


def race(trial: Trial, draw: Generator) -> None:
    """Two or three starts of the same run at once; some are killed."""
    starts = [trainers(trial) for _ in range(int(draw.integers(2, 4)))]
    for ranks in starts:
        if draw.random() < 0.4:
            wait(ranks, draw.uniform(0, 2))
            ranks[0].kill()
    codes([rank for ranks in starts for rank in ranks])


def kill_launcher(trial: Trial, draw: Generator) -> None:
    """`kill -9` of the launcher alone; its runs notice, save and leave, and the next launcher may come at once."""
    launcher = launched(trial, draw)
    launcher.process.kill()
    launcher.process.wait()


def kill_tree(trial: Trial, draw: Generator) -> None:
    """`kill -9` of the launcher and all that it started, as a machine that goes down does it."""
    launcher = launched(trial, draw)
    trial.kill_all()
    launcher.process.wait()


def kill_under_launcher(trial: Trial, draw: Generator) -> None:
    """`kill -9` of anything but the launcher: a run, the warm server, the report. It goes on or says why not."""
    launcher = launched(trial, draw)
    others = [pid for pid in trial.processes() if pid != launcher.process.pid]
    if others:
        with contextlib.suppress(ProcessLookupError):
            os.kill(others[int(draw.integers(len(others)))], signal.SIGKILL)
    note_refusal(trial, launcher)


def stop_launcher(trial: Trial, draw: Generator) -> None:
    """SIGTERM or Ctrl-C, sometimes twice."""
    launcher = launched(trial, draw)
    for _ in range(int(draw.integers(1, 3))):
        launcher.process.send_signal(signal.SIGTERM if draw.random() < 0.5 else signal.SIGINT)
        wait_for(launcher, draw.uniform(0, 2))
    note_refusal(trial, launcher)


def pause_launcher(trial: Trial, draw: Generator) -> None:
    """The launcher, or all of its processes, stand still for a while."""
    launcher = launched(trial, draw)
    pids = list(trial.processes()) if draw.random() < 0.5 else [launcher.process.pid]
    for number in (signal.SIGSTOP, signal.SIGCONT):
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        if number is signal.SIGSTOP:
            time.sleep(draw.uniform(0, 4))
    note_refusal(trial, launcher)


def launchers(trial: Trial, draw: Generator) -> None:
    """Two or three launchers of the same study, a moment apart; some are killed."""
    started = []
    for _ in range(int(draw.integers(2, 4))):
        started.append(trial.start_launcher())
        wait_for(started[-1], draw.uniform(0, trial.study.train_seconds / 2))
    for launcher in started[1:]:
        if draw.random() < 0.3:
            launcher.process.kill()
    for launcher in started:
        note_refusal(trial, launcher)


def kill_keeper(trial: Trial, draw: Generator) -> None:
    """A launcher that leaves its runs to themselves, and then its keeper, or all that is left, is killed or asked."""
    launcher = trial.start_launcher("--detach")
    note_refusal(trial, launcher)
    time.sleep(moment(trial, draw))
    number = signal.SIGKILL if draw.random() < 0.6 else signal.SIGTERM
    pids = [pid for pid in trial.processes() if draw.random() < 0.5 or b"scaling.launch.keeper" in _command(pid)]
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


PROCESS_ATTACKS: tuple[Callable[[Trial, Generator], None], ...] = (
    kill,
    ask_to_leave,
    pause_and_rival,
    race,
    kill_launcher,
    kill_tree,
    kill_under_launcher,
    stop_launcher,
    pause_launcher,
    launchers,
    kill_keeper,
)


def trainers(trial: Trial) -> list[ForkServerProcess]:
    """All processes of the run, without a launcher."""
    return start_run(trial.run_dir, trial.study.num_processes)


def moment(trial: Trial, draw: Generator) -> float:
    """Seconds into an undisturbed start."""
    return float(draw.uniform(0, trial.study.train_seconds))


def launched(trial: Trial, draw: Generator) -> Launcher:
    """A launcher at a random moment of its life."""
    launcher = trial.start_launcher()
    wait_for(launcher, moment(trial, draw))
    return launcher


def note_refusal(trial: Trial, launcher: Launcher) -> None:
    if trial.wait(launcher) in (1, 2):
        trial.refusals.append(launcher.words())


def wait(ranks: Sequence[ForkServerProcess], seconds: float) -> None:
    ranks[0].join(seconds)


def wait_for(launcher: Launcher, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while launcher.process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)


def signal_all(ranks: Sequence[ForkServerProcess], number: signal.Signals) -> None:
    for rank in ranks:
        if rank.is_alive() and rank.pid is not None:
            os.kill(rank.pid, number)


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
