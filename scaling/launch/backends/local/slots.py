"""What this machine offers and how it is shared between runs: CPU cores and GPUs, cut into equal slots.

Runs never share a core or a GPU: threads that fight for one core lose up to three quarters of their speed, and
a throughput measured next to a rival on the same device means nothing.
"""

import os
from dataclasses import dataclass

from scaling.errors import UserError
from scaling.launch.backends.gpus import Gpu, visible_gpus


@dataclass(frozen=True, slots=True)
class Machine:
    """CPU cores, by number, and GPUs that this process may use."""

    cores: tuple[int, ...]
    gpus: tuple[Gpu, ...]


@dataclass(frozen=True, slots=True)
class Slot:
    """Room for one run: one entry per process of the run."""

    cores: tuple[tuple[int, ...], ...]
    gpus: tuple[Gpu, ...]
    """One GPU per process, or none at all."""

    @property
    def threads(self) -> int:
        """CPU threads of one process."""
        return len(self.cores[0])

    @property
    def own_cores(self) -> list[int]:
        """Cores that the run has for itself: with GPUs none, since runs on GPUs may share cores."""
        return [] if self.gpus else [core for process in self.cores for core in process]


def this_machine() -> Machine:
    return Machine(tuple(sorted(os.sched_getaffinity(0))), visible_gpus())


def cut_slots(machine: Machine, *, devices_per_run: int, max_parallel: int | None, threads: int | None) -> list[Slot]:
    """All equal slots that the machine has room for; threads are chosen so that `max_parallel` of them fill it.

    Without GPUs a device is a CPU core (or `threads` of them). There may be more slots than `max_parallel`, so that
    launchers that share a machine find room beside each other. UserError when one run does not fit.
    """
    room = len(machine.gpus) if machine.gpus else len(machine.cores) // (threads or 1)
    kind = "GPUs" if machine.gpus else "CPU cores"
    if room < devices_per_run:
        raise UserError(
            f"launch: a run wants {devices_per_run} devices with {threads or 1} threads, but this machine has "
            f"{len(machine.gpus) or len(machine.cores)} {kind}; lower launch.devices_per_run or launch.local.threads, "
            "or run it on a cluster (launch.backend)"
        )
    at_a_time = min(room // devices_per_run, max_parallel or room)
    per_process = threads or max(1, len(machine.cores) // (at_a_time * devices_per_run))
    num_slots = (len(machine.gpus) if machine.gpus else len(machine.cores) // per_process) // devices_per_run
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
