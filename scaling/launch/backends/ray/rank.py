"""The actor beside each training process: starts it as a child, tells how it ended, passes on a request to leave."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from scaling.records.attempts.contract import MACHINE_TROUBLE, Execution
from scaling.records.run_dir import RunDir

FOREIGN_VARIABLES = (
    *("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"),
    *("SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_PROCID", "SLURM_ARRAY_JOB_ID", "OMPI_COMM_WORLD_RANK"),
)
"""Left over from whatever started Ray; training would take them for its own."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where an actor is."""

    node_id: str
    address: str
    host: str
    sees_run: bool
    """Whether the node has the run's folder."""


class Rank:
    """One process of a run; made an actor by `attempt`."""

    def __init__(self, run_dir: str) -> None:
        self._run_dir = run_dir
        self._process: subprocess.Popen[bytes] | None = None

    def place(self) -> Place:
        import ray

        context = ray.get_runtime_context()
        sees_run = RunDir(Path(self._run_dir)).plan.exists()
        return Place(context.get_node_id(), ray.util.get_node_ip_address(), os.uname().nodename, sees_run)

    def free_port(self) -> int:
        """A port of this node for the meeting of the processes."""
        with socket.socket() as probe:
            probe.bind(("", 0))
            return int(probe.getsockname()[1])

    def start(self, execution: Execution, variables: Mapping[str, str]) -> int:
        """Start training; its process id. What the machine is (GPUs that Ray chose) comes from this process."""
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("RAY_") and name not in FOREIGN_VARIABLES
        }
        threads = execution.threads or 1
        arguments = [self._run_dir, "--log", *replace(execution, threads=threads).arguments()]
        with RunDir(Path(self._run_dir)).log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "scaling.launch.backends.ray.child", str(os.getpid()), *arguments],
                env=environment | {"OMP_NUM_THREADS": str(threads)} | dict(variables),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        return self._process.pid

    def poll(self) -> int | None:
        """Exit code of the process, negative for a signal; None while it runs."""
        return MACHINE_TROUBLE if self._process is None else self._process.poll()

    def leave(self) -> None:
        """Ask the process to save a checkpoint and leave."""
        self._signal(signal.SIGTERM)

    def kill(self) -> int | None:
        """End the process at once; its exit code."""
        self._signal(signal.SIGKILL)
        return None if self._process is None else self._process.wait()

    def _signal(self, number: int) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)
