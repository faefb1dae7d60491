"""The processes of one run: how they meet, how the loss of one is noticed, and how they part.

They find each other as `meeting` says; a single process needs no port. What the hosts have to agree on travels through
gloo on the CPU, also beside NCCL, so that agreeing never waits for a GPU.

With NCCL a collective that times out does not raise, it kills the process, and `destroy_process_group` waits for
partners that may wait for this process. So agreements time out well before NCCL does, and only processes that end
together, in order, destroy their groups; an exception passes without that, and `entry` ends the process at once.
"""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import deepspeed
import torch
import torch.distributed

from scaling.data.read.processes.decode_processes import DecodeProcesses
from scaling.errors import UserError
from scaling.records.attempts.contract import AS_IT_COMES, Execution
from scaling.train.processes.decoding import decoding_threads, own_cores
from scaling.train.processes.failures import MachineError
from scaling.train.processes.meeting import meet
from scaling.train.processes.near_gpu import pci_address, stay_beside
from scaling.train.processes.placement import Placement, find_placement, given_gpus

logger = logging.getLogger(__name__)

COLLECTIVE_TIMEOUT = timedelta(minutes=20)
"""A partner silent for so long is lost; the run ends and can be resumed."""

AGREEMENT_SHARE = 0.5
"""Of that time after which an agreement among the hosts gives up: it raises, where NCCL would kill."""


@dataclass(frozen=True, slots=True)
class Processes:
    rank: int
    world: int
    device: torch.device
    host_group: Any = None
    """torch.distributed group in which agreements are made; None for the default one."""
    loader_threads: int = 1
    """Threads that read and decode images for each process."""
    decode_processes: DecodeProcesses | None = None
    """Those that have these threads, where it is not this process itself."""
    pixel_cache_gb: float | None = None
    """Memory of this node for decoded training images, 10^9 bytes; None: the default of each process."""
    cores: int = 1
    """CPU cores that this process may count as its own."""

    @property
    def num_decode_processes(self) -> int:
        return self.decode_processes.num_processes if self.decode_processes else 0

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def any(self, flag: bool) -> bool:
        """Whether the flag is up on any process; every process must ask at the same step."""
        if self.world == 1:
            return flag
        value = torch.tensor([float(flag)])
        torch.distributed.all_reduce(value, op=torch.distributed.ReduceOp.MAX, group=self.host_group)
        return bool(value.item())

    def begin_any(self, flag: bool) -> "Vote":
        """Ask as `any` does without waiting: the answer travels while this process computes."""
        if self.world == 1:
            return NO_VOTE
        value = torch.tensor([float(flag)])
        work = torch.distributed.all_reduce(
            value, op=torch.distributed.ReduceOp.MAX, group=self.host_group, async_op=True
        )
        return Vote(value, work)

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """Element-wise sum over the processes, in place; on the processes' device."""
        if self.world > 1:
            torch.distributed.all_reduce(values)
        return values

    def gather(self, values: torch.Tensor) -> list[torch.Tensor]:
        """The tensors of all processes in the order of their ranks."""
        if self.world == 1:
            return [values]
        parts = [torch.empty_like(values) for _ in range(self.world)]
        torch.distributed.all_gather(parts, values)
        return parts

    def barrier(self) -> None:
        """Wait for all processes."""
        self.any(False)


@dataclass(frozen=True, slots=True)
class Vote:
    """A question that was put to all processes."""

    value: torch.Tensor | None
    work: Any

    def is_up(self, own: bool) -> bool:
        """Whether the flag was up on any process when it was asked; of a single process, whether `own` is up now."""
        if self.value is None:
            return own
        self.work.wait()
        return bool(self.value.item())


NO_VOTE = Vote(None, None)
"""Of a single process, which need not ask."""


@contextmanager
def join_processes(
    execution: Execution = AS_IT_COMES, *, run: str = "", may_use_gpu: bool = True
) -> Iterator[Processes]:
    """Meet the other processes of `run`, whose name only they share; on a way out without an exception, leave them in
    order."""
    placement = find_placement()
    os.environ.update(placement.environment())  # DeepSpeed insists on them, also for a single process.
    rank, world = placement.rank, placement.world
    device = find_device(placement) if may_use_gpu else torch.device("cpu")
    _settle_accelerator(device)
    if device.index is not None:
        _tell_device(device.index)
    leave_out_shared_memory_operator()
    backend = "nccl" if device.type == "cuda" else "gloo"
    # A single process meets itself in its own memory: nothing stays on a disk after a kill.
    store = meet(placement, run, COLLECTIVE_TIMEOUT) if world > 1 else torch.distributed.HashStore()
    torch.distributed.init_process_group(backend, timeout=COLLECTIVE_TIMEOUT, store=store, rank=rank, world_size=world)
    # DeepSpeed takes what is there.
    deepspeed.init_distributed(
        dist_backend=backend, auto_mpi_discovery=False, verbose=False, timeout=COLLECTIVE_TIMEOUT
    )
    host_group = None
    if device.type == "cuda" and world > 1:
        host_group = torch.distributed.new_group(backend="gloo", timeout=COLLECTIVE_TIMEOUT * AGREEMENT_SHARE)
    cores = own_cores(execution.threads, placement.local_world)
    if device.type == "cuda" and (address := pci_address(torch.cuda.get_device_properties(device))):
        stay_beside(address)
        cores = min(cores, len(os.sched_getaffinity(0)))
    arithmetic = 1 if device.type == "cuda" else torch.get_num_threads()
    num_processes = execution.loader_processes
    threads = execution.loader_threads or decoding_threads(cores, arithmetic, num_processes)
    if threads < num_processes:
        raise UserError(
            f"{threads} loader threads are too few for {num_processes} loader processes, of which each needs one; "
            "raise the one (--loader-threads) or lower the other (--loader-processes)"
        )
    try:
        with DecodeProcesses(num_processes, threads) if num_processes else nullcontext() as decode_processes:
            yield Processes(rank, world, device, host_group, threads, decode_processes, execution.pixel_cache_gb, cores)
    except BaseException:
        if world == 1:
            deepspeed.comm.destroy_process_group()
        raise
    deepspeed.comm.destroy_process_group()


def leave_out_shared_memory_operator() -> None:
    """DeepSpeed compiles it, in C++, at every distributed start, even with gloo, which takes 25 s and more. We use
    torch's collectives only, so DeepSpeed sees none."""
    sys.modules["deepspeed.comm.torch"].build_shm_op = lambda: None  # type: ignore[attr-defined]


def find_device(placement: Placement) -> torch.device:
    """This process's GPU, or the CPU where it has none; MachineError where it has one that cannot be used.

    A scheduler that gives each process a GPU of its own shows it as number 0, whatever the local rank.
    """
    if not torch.cuda.is_available():
        if given := given_gpus():
            raise MachineError(
                f"this process was given the GPU {given} of {os.uname().nodename}, and PyTorch {torch.__version__} "
                "cannot use it; see nvidia-smi there, or hide it (CUDA_VISIBLE_DEVICES=) to train on the CPU"
            )
        return torch.device("cpu")
    visible = torch.cuda.device_count()
    index = 0 if visible == 1 else placement.local_rank
    if index >= visible:
        raise UserError(
            f"local rank {placement.local_rank} has no GPU of its own: {visible} GPUs are visible to it; start at most "
            f"{visible} processes on this node, or make more GPUs visible (CUDA_VISIBLE_DEVICES, --gpus-per-task=1)"
        )
    if placement.rank == 0 and visible > placement.local_world:
        logger.warning(
            "%d GPUs are visible and this run uses %d of them; launch.devices_per_run decides how many it takes",
            visible,
            placement.local_world,
        )
    device = torch.device("cuda", index)
    torch.cuda.set_device(device)
    return device


def _settle_accelerator(device: torch.device) -> None:
    """Tell DeepSpeed which kind of device the run uses. By itself it goes by the presence of tools and packages, which
    is wrong where GPUs are hidden, and where there are GPUs but no `nvidia-smi`."""
    from deepspeed.accelerator.cpu_accelerator import CPU_Accelerator
    from deepspeed.accelerator.cuda_accelerator import CUDA_Accelerator

    accelerator = deepspeed.accelerator.get_accelerator()
    if accelerator.device_name() != device.type:
        deepspeed.accelerator.set_accelerator(CUDA_Accelerator() if device.type == "cuda" else CPU_Accelerator())


def _tell_device(index: int) -> None:
    """DeepSpeed takes LOCAL_RANK for the number of the GPU, and insists that Open MPI's local rank is the same; a
    process that sees one GPU only has number 0 whatever its local rank."""
    os.environ["LOCAL_RANK"] = str(index)
    os.environ.pop("OMPI_COMM_WORLD_LOCAL_RANK", None)


def apply_timeout(group: Any) -> None:
    """Give a group that DeepSpeed made our timeout: it clones the default group with PyTorch's, half an hour."""
    c10d = torch.distributed.distributed_c10d
    # The public name is newer than the oldest PyTorch that we work with.
    set_timeout = getattr(c10d, "set_timeout", None) or c10d._set_pg_timeout
    set_timeout(COLLECTIVE_TIMEOUT, group)


def is_lost_partner(error: BaseException) -> bool:
    """Whether an error says that another process died or stayed silent, rather than that this one did wrong.

    gloo tells it in a plain RuntimeError that names its own source file; NCCL has an exception of torch's.
    """
    return isinstance(error, torch.distributed.DistError) or (
        isinstance(error, RuntimeError) and "/gloo/" in str(error)
    )
