"""The process that measures one model: forked from a server that has imported PyTorch, and alone on its device.

It dies with the command that started it, so that no measurement runs beside another one.
"""

import ctypes
import multiprocessing
import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext

from scaling.bench.throughput.order import Order
from scaling.errors import UserError
from scaling.launch.backends.gpus import Gpu, visible_gpus
from scaling.launch.backends.local.machine_locks import DeviceLocks
from scaling.launch.backends.local.slots import this_machine
from scaling.records.scores.throughput import ThroughputRow

PR_SET_PDEATHSIG = 1
"""Of prctl(2)."""


@dataclass(frozen=True, slots=True)
class Devices:
    """What measurements have of this machine for themselves."""

    cores: tuple[int, ...]
    gpu: Gpu | None
    is_shared: bool
    """Whether runs of a launcher hold all such devices now."""

    @property
    def environment(self) -> dict[str, str]:
        """What CUDA reads."""
        return {"CUDA_VISIBLE_DEVICES": self.gpu.name} if self.gpu else {}


def take_devices(kind: str, threads: int) -> Devices:
    """The first GPU, or the first `threads` cores, that no launcher's run holds, kept from launchers until this process
    ends; `kind` is `auto`, `cpu` or `cuda`. UserError when the machine has too few cores."""
    gpus = () if kind == "cpu" else visible_gpus()
    cores = this_machine().cores
    locks = DeviceLocks()
    if gpus:
        free = next((gpu for gpu in gpus if locks.take((), [gpu.uuid]) is not None), None)
        return Devices(cores, free or gpus[0], free is None)
    if threads > len(cores):
        raise UserError(f"--threads {threads}: this machine lets this process use {len(cores)} cores; take fewer")
    groups = [cores[first : first + threads] for first in range(0, len(cores) - threads + 1, threads)]
    own = next((group for group in groups if locks.take(group, ()) is not None), None)
    return Devices(own or groups[0], None, own is None)


class Measurer:
    """Measures one order after another, each in a process of its own."""

    def __init__(self, devices: Devices, threads: int) -> None:
        self._devices = devices
        os.environ["OMP_NUM_THREADS"] = str(threads)  # Read when PyTorch is imported.
        os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
        self._context: ForkServerContext = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["scaling.bench.throughput.measure"])

    def measure(self, order: Order) -> ThroughputRow:
        """UserError with the process's own words, or when it was killed."""
        answers, side = self._context.Pipe(duplex=False)
        devices = self._devices
        arguments = (order, devices.cores, devices.environment, devices.gpu, devices.is_shared, side)
        process = self._context.Process(target=_work, args=arguments, daemon=True)
        process.start()
        side.close()
        try:
            kind, text = answers.recv()
        except EOFError:
            process.join()
            raise UserError(_death(order, process.exitcode)) from None
        process.join()
        if kind != "row":
            raise UserError(text)
        return ThroughputRow.model_validate_json(text)


def _death(order: Order, code: int | None) -> str:
    if code == -signal.SIGKILL:
        return (
            f"{order.timed.model}: its process was killed, as the system does when memory ends; lower --largest-batch "
            "or --batch"
        )
    return f"{order.timed.model}: its process ended with code {code}; what it said stands above"


def _work(
    order: Order,
    cores: Sequence[int],
    environment: Mapping[str, str],
    gpu: Gpu | None,
    is_shared: bool,
    answer: Connection,
) -> None:
    """The forked process."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # The command answers Ctrl-C, and its end is the end of this process.
    os.environ.update(environment)
    os.sched_setaffinity(0, cores)
    from scaling.bench.throughput.measure import measure
    from scaling.bench.throughput.surroundings import Surroundings

    try:
        row = measure(order, Surroundings(cores, gpu.uuid if gpu else None, is_shared=is_shared))
    except UserError as error:
        answer.send(("refused", str(error)))
    else:
        answer.send(("row", row.model_dump_json()))
