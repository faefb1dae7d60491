"""The processes of one run on this machine, each forked from one warm server.

Importing PyTorch, timm and DeepSpeed takes seconds, more than a small run's first epoch. A `forkserver` process
(Python's own `multiprocessing`) imports them once; every run is a fork of it, so it starts at once, and a crash or
`kill -9` takes nothing else with it. When the launcher dies its runs notice, save a checkpoint and leave.
"""

import multiprocessing
import os
import signal
import socket
import time
from collections.abc import Mapping
from multiprocessing import reduction
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Any

from scaling.launch.backends.local.slots import Slot
from scaling.records.attempts.attempt import latest_number
from scaling.records.attempts.contract import Execution
from scaling.train.entry import train_run

PARTNER_GRACE_SECONDS = 10.0
"""How long the other processes of a run may take to leave once one of them is lost."""


class WarmServer:
    """Starts training processes; the server itself starts at the first one."""

    def __init__(self) -> None:
        self._context: ForkServerContext | None = None

    def process(self, threads: int, **arguments: Any) -> ForkServerProcess:
        """A training process that has not been started; its libraries read the number of threads when imported."""
        if self._context is None:
            os.environ["OMP_NUM_THREADS"] = str(threads)
            self._context = multiprocessing.get_context("forkserver")
            self._context.set_forkserver_preload(["scaling.train.processes.preload"])
        return self._context.Process(target=_train, **arguments)


class StartError(RuntimeError):
    """The processes of a run could not be started."""


class LocalRun:
    """One attempt at one run: its processes and what they have of the machine."""

    def __init__(self, run_dir: Path, slot: Slot, locks: int, execution: Execution, server: WarmServer) -> None:
        """Start it; `locks`, the descriptor that holds the slot's devices, is passed on and closed here.

        StartError when the warm server dies in that moment or the machine has no process to give.
        """
        self.run_dir = run_dir
        self.slot = slot
        self.begun_after = latest_number(run_dir)
        """The highest attempt number from before it: what its processes claim is above."""
        self._codes: dict[int, int] = {}
        """Exit codes of the processes that ended by themselves, by rank, in the order seen."""
        world = len(slot.cores)
        port = _free_port() if world > 1 else 0
        self._processes = [
            server.process(
                slot.threads,
                args=(str(run_dir), slot.cores[rank], _environment(slot, rank, port), execution, _Passed(locks)),
                name=f"{run_dir.name}:{rank}",
            )
            for rank in range(world)
        ]
        try:
            for process in self._processes:
                process.start()
        except (EOFError, OSError) as error:
            for process in self._processes:
                if process.pid is not None:
                    process.kill()
                    process.join()
            raise StartError(str(error) or type(error).__name__) from error
        finally:
            os.close(locks)

    @property
    def pid(self) -> int:
        """Of the first process."""
        return self._processes[0].pid or 0

    def poll(self) -> int | None:
        """None while it runs; then the exit code that tells most: of the first process that ended with an error before
        its partners had to be ended, by rank, or 0."""
        self._see()
        if any(self._codes.values()):
            # One rank is lost, so its partners wait in a collective that can never complete.
            self._end_partners()
        if len(self._codes) < len(self._processes):
            return None
        told = [code for _, code in sorted(self._codes.items()) if code]
        # A process that had to be killed because a partner was lost says less than that partner.
        return next((code for code in told if code != -signal.SIGKILL), told[0] if told else 0)

    def ask_to_leave(self) -> None:
        """SIGTERM: save a checkpoint at the next step edge."""
        for process in self._processes:
            if process.is_alive():
                process.terminate()

    def wait(self, deadline: float) -> int:
        """The exit code; processes that are there at `deadline` (monotonic) are killed."""
        for process in self._processes:
            process.join(max(0.0, deadline - time.monotonic()))
        self._see()
        for process in self._processes:
            if process.is_alive():
                process.kill()
                process.join()
        self._see()
        return self.poll() or 0

    def _see(self) -> None:
        for rank, process in enumerate(self._processes):
            if process.exitcode is not None:
                self._codes.setdefault(rank, process.exitcode)

    def _end_partners(self) -> None:
        """Let the other ranks leave by themselves for a moment (a pre-emption ends all of them), then kill."""
        deadline = time.monotonic() + PARTNER_GRACE_SECONDS
        for process in self._processes:
            process.join(max(0.0, deadline - time.monotonic()))
            self._see()
            if process.is_alive():
                process.kill()
                process.join()
        self._see()


class _Passed:
    """An open file that goes to the started process with its arguments, and stays open there."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def __reduce__(self) -> Any:
        return _receive, (reduction.DupFd(self.descriptor),)


def _receive(passed: Any) -> _Passed:
    return _Passed(passed.detach())


def _train(
    run_dir: str, cores: tuple[int, ...], environment: Mapping[str, str], execution: Execution, locks: _Passed
) -> None:
    """The forked process: take the slot's cores, then train; ends with `train_run`'s exit code. It holds the locks of
    its devices until it is gone."""
    # Ctrl-C reaches the whole foreground group; the launcher alone answers it, by asking runs to save and leave.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.sched_setaffinity(0, cores)
    os.environ.update(environment)
    raise SystemExit(train_run(run_dir, watch_parent=True, execution=execution))


def _environment(slot: Slot, rank: int, port: int) -> dict[str, str]:
    """What torch.distributed and CUDA read; empty for a single process on the CPU."""
    environment = {}
    if slot.gpus:
        environment["CUDA_VISIBLE_DEVICES"] = slot.gpus[rank].name
    if len(slot.cores) > 1:
        # LOCAL_RANK is 0 because each process sees one GPU only.
        environment |= {"RANK": str(rank), "LOCAL_RANK": "0", "WORLD_SIZE": str(len(slot.cores))}
        environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return environment


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
