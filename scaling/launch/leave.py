"""What a launcher that is asked to leave does with jobs of a scheduler, which keep running without it.

Ctrl-C on a terminal asks: leave the jobs running, or let them save and stop. Without a terminal, on a second Ctrl-C,
and when something else than a person asks (SIGTERM), they are left running: that loses nothing and can be followed by
either.
"""

import contextlib
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from scaling.launch.backends.base import Backend
from scaling.records.attempts.contract import LEAVE_SIGNALS

QUESTION = """\
{jobs} on {name}. Leave or stop them?
  l  leave them: they keep running, and the same command finds them again (also: Enter, Ctrl-C)
  s  stop them: each saves a checkpoint and stays away until --retry-failed
[l/s] """


def listen() -> None:
    """From here on a scheduler's request to leave is answered as Ctrl-C is."""
    for number in LEAVE_SIGNALS:
        signal.signal(number, _interrupt)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt(signal.Signals(number).name)


def leave_jobs(backend: Backend, study_dir: Path, run_dirs: Sequence[Path], *, ask: bool) -> None:
    """Leave those of the runs that are queued or running, or stop them where a person says so; `ask`: a person may be
    asked."""
    name = backend.scheduler
    looks = backend.poll(study_dir)
    jobs = [run_dir for run_dir in run_dirs if run_dir in looks and looks[run_dir].phase in _ALIVE]
    if jobs and ask and has_person() and _wants_to_stop(len(jobs), name):
        backend.cancel(jobs)
        _say(f"{_count(len(jobs))} asked to save a checkpoint and stop; --retry-failed brings them back")
    elif jobs:
        _say(f"{_count(len(jobs))} left on {name}; the same command comes back to them, --cancel RUN stops one")
    backend.close(detach=True)


_ALIVE = ("queued", "running", "unknown")


def has_person() -> bool:
    """Whether somebody can read a question and type an answer: this process owns the terminal."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    with contextlib.suppress(OSError):
        return os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()
    return False


def _wants_to_stop(count: int, name: str) -> bool:
    """The answer; silence, the end of the input and another Ctrl-C mean no."""
    try:
        print(QUESTION.format(jobs=_count(count), name=name), end="", file=sys.stderr, flush=True)
        while True:
            line = sys.stdin.readline()
            answer = line.strip().lower()
            if answer in ("s", "stop"):
                return True
            if not answer or answer in ("l", "leave"):
                return False
            print("l or s? ", end="", file=sys.stderr, flush=True)
    except KeyboardInterrupt:
        print(file=sys.stderr)
        return False


def _count(number: int) -> str:
    return f"{number} run{'' if number == 1 else 's'}"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
