"""Processes that decode for another one: as many interpreters as it takes, and batches in memory that both see.

A thread of the asking process speaks with one thread of a decode process over a socket of their own: it sends the
places of some rows and waits for their class numbers, while the pixels are written where the batch lies. So order,
counting and errors are those of threads. The decode processes are forks of one fresh interpreter that imported what
they need, so they start together and share what PyTorch takes. They end by themselves when their asker closes them or
is gone, and signals are blocked in them: whoever asks them answers those.
"""

import itertools
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Self

from scaling.data.read.processes.shared_memory import SharedMemory
from scaling.errors import LostDecoderError

if TYPE_CHECKING:
    from scaling.data.read.rows import Places

WORKER = "scaling.data.read.processes.decode_worker"
"""Module that runs them."""

END_SECONDS = 10.0
"""How long a decode process may take to end before it is killed."""

BLOCKED_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
"""A terminal or a scheduler may send them to all processes of a run."""

LIGHT_PROCESS = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
"""Environment of a decode process: its threads are its own, and it needs no GPU."""


@dataclass(frozen=True, slots=True)
class Task:
    """Rows of a batch to be made, as a decode process is told of them."""

    job: int
    live_jobs: tuple[int, ...]
    """Of others it may forget all."""
    rows: tuple[int, int]
    """Where the pickled `Rows` of the job lie in the shared memory: offset and bytes of a region."""
    batch: tuple[int, int]
    """Where the batch lies."""
    first_row: int
    places: "Places"


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a task."""

    labels: list[list[int]]
    told: tuple[tuple[int, int, str], ...]
    """Shard, index and what is wrong with the samples for which others stand in."""
    errors: tuple[BaseException, ...] = ()
    """What ended the work, what that was raised from, and so on."""


class DecodeProcesses:
    """`num_processes` of them, with `num_threads` in all. Use as a context manager; threads may share one."""

    def __init__(self, num_processes: int, num_threads: int) -> None:
        assert 0 < num_processes <= num_threads, (num_processes, num_threads)
        self.num_processes, self.num_threads = num_processes, num_threads
        self.memory = SharedMemory()
        self._jobs = itertools.count()
        self._live_jobs: frozenset[int] = frozenset()
        self._lock = threading.Lock()
        pairs = [socket.socketpair() for _ in range(num_threads)]
        theirs = [there.fileno() for _, there in pairs]
        groups = [",".join(map(str, theirs[number::num_processes])) for number in range(num_processes)]
        self._connections = [Connection(here.detach()) for here, _ in pairs]
        self._free: queue.SimpleQueue[Connection] = queue.SimpleQueue()
        for connection in self._connections:
            self._free.put(connection)
        try:
            # Blocked signals are inherited, and so in force from a decode process's first moment to its last.
            with _blocked(BLOCKED_SIGNALS):
                self._parent = subprocess.Popen(
                    [sys.executable, "-m", WORKER, str(self.memory.descriptor), *groups],
                    stdin=subprocess.PIPE,
                    env=os.environ | LIGHT_PROCESS,
                    pass_fds=[self.memory.descriptor, *theirs],
                )
        except BaseException:
            self._close_connections()
            raise
        finally:
            for _, there in pairs:
                there.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @property
    def parent_id(self) -> int:
        """Process id of the decode processes' parent, a child of this process."""
        return self._parent.pid

    def close(self) -> None:
        """End the processes; batches in use stay whole."""
        self._close_connections()
        assert self._parent.stdin is not None
        self._parent.stdin.close()
        try:
            self._parent.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._parent.kill()
            self._parent.wait()

    def _close_connections(self) -> None:
        for connection in self._connections:
            connection.close()
        self.memory.close()

    def begin_job(self) -> int:
        """A number for what tasks have in common."""
        with self._lock:
            job = next(self._jobs)
            self._live_jobs |= {job}
        return job

    def end_job(self, job: int) -> None:
        """Let the processes forget it with the next task."""
        with self._lock:
            self._live_jobs -= {job}

    def ask(self, job: int, rows: tuple[int, int], batch: tuple[int, int], first_row: int, places: "Places") -> Answer:
        """The answer of whichever thread is free, as in `Task`; LostDecoderError when its process is gone."""
        connection = self._free.get()
        try:
            connection.send(Task(job, tuple(self._live_jobs), rows, batch, first_row, places))
            answer: Answer = connection.recv()
        except (EOFError, OSError) as error:
            raise LostDecoderError(_how_it_ended(self._parent)) from error
        finally:
            self._free.put(connection)
        return answer


def _how_it_ended(parent: subprocess.Popen[bytes]) -> str:
    """The parent of decode processes ends as the first of them did."""
    try:
        code = parent.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        return "a decode process does not answer"
    if code >= 0:
        return f"a decode process ended with code {code}; what it said stands above"
    told = f"a decode process was ended by {signal.Signals(-code).name}"
    if -code == signal.SIGKILL:
        told += "; a system short of memory does that: give the run more, or take fewer loader_processes"
    return told


@contextmanager
def _blocked(numbers: tuple[signal.Signals, ...]) -> Iterator[None]:
    """Keep signals from this thread, and from what it starts."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
