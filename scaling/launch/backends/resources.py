"""What this machine offers and how it is shared between runs: CPU cores and GPUs, cut into equal slots.

Runs never share a core or a GPU: threads that fight for one core lose up to three quarters of their speed, and
a throughput measured next to a rival on the same device means nothing.
"""

import os
import shutil
import subprocess
from dataclasses import dataclass

from scaling.errors import UserError


@dataclass(frozen=True, slots=True)
class Machine:
    """CPU cores that this process may use and GPUs, by number."""

    cores: tuple[int, ...]
    gpus: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Slot:
    """Room for one run: one entry per process of the run."""

    cores: tuple[tuple[int, ...], ...]
    gpus: tuple[int, ...]
    """One GPU per process, or none at all."""

    @property
    def threads(self) -> int:
        return len(self.cores[0])


def this_machine() -> Machine:
    return Machine(tuple(sorted(os.sched_getaffinity(0))), _gpus())


def cut_slots(machine: Machine, *, devices_per_run: int, max_parallel: int | None, threads: int | None) -> list[Slot]:
    """Equal slots for as many runs at a time as the machine, or `max_parallel`, allows.

    Without GPUs a device is a CPU core (or `threads` of them).
    """
    room = len(machine.gpus) if machine.gpus else len(machine.cores) // (threads or 1)
    kind = "GPUs" if machine.gpus else "CPU cores"
    if room < devices_per_run:
        raise UserError(
            f"launch: a run wants {devices_per_run} devices with {threads or 1} threads, but this machine has "
            f"{len(machine.gpus) or len(machine.cores)} {kind}; lower launch.devices_per_run or launch.threads"
        )
    num_slots = room // devices_per_run
    if max_parallel is not None:
        num_slots = min(num_slots, max_parallel)
    num_processes = num_slots * devices_per_run
    per_process = threads or max(1, len(machine.cores) // num_processes)
    slots = []
    for slot in range(num_slots):
        processes = range(slot * devices_per_run, (slot + 1) * devices_per_run)
        # More processes than cores (many GPUs, few cores) share cores in turn.
        cores = tuple(
            tuple(machine.cores[(p * per_process + i) % len(machine.cores)] for i in range(per_process))
            for p in processes
        )
        slots.append(Slot(cores, tuple(machine.gpus[p] for p in processes) if machine.gpus else ()))
    return slots


def _gpus() -> tuple[int, ...]:
    """Numbers of the NVIDIA GPUs, asked of the driver's own tool: the launcher never imports PyTorch."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return ()
    answer = subprocess.run([tool, "-L"], capture_output=True, text=True, check=False)
    found = sum(line.startswith("GPU ") for line in answer.stdout.splitlines()) if answer.returncode == 0 else 0
    allowed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if allowed is not None:
        return tuple(int(number) for number in allowed.split(",") if number.strip().isdigit() and int(number) < found)
    return tuple(range(found))
