"""The local backend: runs on this machine, each in processes of its own, forked from one warm server.

Importing PyTorch, timm and DeepSpeed takes seconds, more than a small run's first epoch. A `forkserver`
process (Python's own `multiprocessing`) imports them once; every run is a fork of it, so it starts at once, and
a crash or `kill -9` takes nothing else with it. When the launcher dies its runs notice, save a checkpoint and
leave.
"""

import multiprocessing
import os
import signal
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path

from scaling.launch.backends.base import Ended
from scaling.launch.backends.resources import Slot, cut_slots, this_machine
from scaling.spec.launch_spec import LaunchSpec
from scaling.train.entry import train_run

STOP_GRACE_SECONDS = 120.0
"""How long a run may take to finish its step and save before it is killed."""


@dataclass
class _Run:
    run_dir: Path
    slot: Slot
    processes: list[ForkServerProcess]


class LocalBackend:
    """As many runs at a time as the machine has slots; implements `Backend`."""

    def __init__(self, launch: LaunchSpec) -> None:
        self._free = cut_slots(
            this_machine(),
            devices_per_run=launch.devices,
            max_parallel=launch.local.max_parallel,
            threads=launch.local.threads,
        )
        self.num_slots = len(self._free)
        self.threads_per_process = self._free[0].threads
        self._runs: list[_Run] = []
        self._server: ForkServerContext | None = None

    def has_room(self) -> bool:
        return bool(self._free)

    def start(self, run_dir: Path) -> None:
        slot = self._free.pop(0)
        processes = [
            self._context().Process(
                target=_train,
                args=(str(run_dir), slot.cores[rank], self._environment(slot, rank, port)),
                name=f"{run_dir.name}:{rank}",
            )
            for port in [_free_port() if len(slot.cores) > 1 else 0]
            for rank in range(len(slot.cores))
        ]
        for process in processes:
            process.start()
        self._runs.append(_Run(run_dir, slot, processes))

    def poll(self) -> list[Ended]:
        ended = []
        for run in list(self._runs):
            codes = [process.exitcode for process in run.processes]
            if any(code not in (None, 0) for code in codes):
                # One rank is lost, so its partners wait in a collective that can never complete.
                self._end_partners(run)
                codes = [process.exitcode for process in run.processes]
            if None in codes:
                continue
            self._runs.remove(run)
            self._free.append(run.slot)
            ended.append(Ended(run.run_dir, next((code for code in codes if code), 0)))
        return ended

    def stop(self) -> None:
        for run in self._runs:
            for process in run.processes:
                if process.is_alive():
                    process.terminate()
        deadline = time.monotonic() + STOP_GRACE_SECONDS
        for run in self._runs:
            for process in run.processes:
                process.join(max(0.0, deadline - time.monotonic()))
                if process.is_alive():
                    process.kill()
                    process.join()
            self._free.append(run.slot)
        self._runs.clear()

    def _context(self) -> ForkServerContext:
        """The warm server, started at the first run with the environment that the libraries read at import."""
        if self._server is None:
            os.environ["OMP_NUM_THREADS"] = str(self.threads_per_process)
            self._server = multiprocessing.get_context("forkserver")
            self._server.set_forkserver_preload(["scaling.train.preload"])
        return self._server

    @staticmethod
    def _environment(slot: Slot, rank: int, port: int) -> dict[str, str]:
        """What torch.distributed and CUDA read; empty for a single process on the CPU."""
        environment = {}
        if slot.gpus:
            environment["CUDA_VISIBLE_DEVICES"] = str(slot.gpus[rank])
        if len(slot.cores) > 1:
            # LOCAL_RANK is 0 because each process sees one GPU only.
            environment |= {"RANK": str(rank), "LOCAL_RANK": "0", "WORLD_SIZE": str(len(slot.cores))}
            environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        return environment

    @staticmethod
    def _end_partners(run: _Run, grace_seconds: float = 10.0) -> None:
        """Let the other ranks leave by themselves for a moment (a pre-emption ends all of them), then kill."""
        deadline = time.monotonic() + grace_seconds
        for process in run.processes:
            process.join(max(0.0, deadline - time.monotonic()))
            if process.is_alive():
                process.kill()
                process.join()


def _train(run_dir: str, cores: tuple[int, ...], environment: Mapping[str, str]) -> None:
    """The forked process: take the slot's cores, then train; ends with `train_run`'s exit code."""
    # Ctrl-C reaches the whole foreground group; the launcher alone answers it, by asking runs to save and leave.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.sched_setaffinity(0, cores)
    os.environ.update(environment)
    raise SystemExit(train_run(run_dir, watch_parent=True))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
