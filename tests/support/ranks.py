"""Processes of a test's own, forked from a warm server as the local backend's are, with the faults a test wants."""

import multiprocessing
import os
import socket
import time
from collections.abc import Callable
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from scaling.records.attempts.contract import Execution
from scaling.train.entry import train_run

Prepare = Callable[[int], None]
"""Called in each process with its rank before anything else: sets a limit, breaks something."""


def start(target: Callable[..., None], *args: Any, world: int) -> list[ForkServerProcess]:
    """`world` processes that run `target(*args)` as ranks of one torch.distributed job."""
    port = free_port()
    return [_start_rank(target, args, rank, world, port) for rank in range(world)]


def start_run(
    run_dir: Path, world: int, prepare: Prepare | None = None, *, threads: int = 1
) -> list[ForkServerProcess]:
    """The processes of one run; each ends with `train_run`'s exit code."""
    return start(_train, run_dir, prepare, threads, world=world)


def start_rank(run_dir: Path, rank: int, world: int, port: int, prepare: Prepare | None = None) -> ForkServerProcess:
    """One process of a run by itself, which meets the others at a port of this machine."""
    return _start_rank(_train, (run_dir, prepare, 1), rank, world, port)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def leave_at(rank: int, step: int) -> None:
    """Prepares a process that is asked to leave at the edge after `step`."""
    from scaling.train.loop import Loop

    edge = Loop._edge

    def leaves(self: Loop, now: int) -> bool:
        if now == step:
            self._flag.reason = "asked by the test"
        return edge(self, now)

    Loop._edge = leaves  # type: ignore[method-assign]


def codes(processes: list[ForkServerProcess], seconds: float = 120) -> list[int | None]:
    """Exit codes, by rank; a process that does not end in time is killed."""
    deadline = time.monotonic() + seconds
    for process in processes:
        process.join(max(0.0, deadline - time.monotonic()))
    ended = [process.exitcode for process in processes]
    for process in processes:
        process.kill()
        process.join()
    return ended


def _start_rank(
    target: Callable[..., None], args: tuple[Any, ...], rank: int, world: int, port: int
) -> ForkServerProcess:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["scaling.train.processes.preload"])
    process = context.Process(target=_run, args=(target, args, rank, world, port))
    process.start()
    return process


def _run(target: Callable[..., None], args: tuple[Any, ...], rank: int, world: int, port: int) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": "0", "WORLD_SIZE": str(world)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    target(*args)


def _train(run_dir: Path, prepare: Prepare | None, threads: int) -> None:
    if prepare is not None:
        prepare(int(os.environ["RANK"]))
    raise SystemExit(train_run(str(run_dir), execution=Execution(threads=threads)))
