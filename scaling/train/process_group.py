"""The processes of one run: who this one is, how they meet, and how the loss of one is noticed.

torchrun, srun wrappers, Ray and the local backend all describe a process by RANK, WORLD_SIZE and LOCAL_RANK; with none
of them set the run is a single process. A single process meets itself through a file, which needs no port. What the
hosts have to agree on travels through gloo on the CPU, also beside NCCL, so that agreeing never waits for a GPU.
"""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import deepspeed
import torch
import torch.distributed

COLLECTIVE_TIMEOUT = timedelta(minutes=20)
"""A partner silent for so long is lost; the run ends and can be resumed."""


@dataclass(frozen=True, slots=True)
class Processes:
    rank: int
    world: int
    device: torch.device
    host_group: Any = None
    """torch.distributed group in which agreements are made; None for the default one."""
    loader_threads: int = 1
    """Threads that read and decode images for each process."""

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


@contextmanager
def join_processes(*, may_use_gpu: bool = True, loader_threads: int = 1) -> Iterator[Processes]:
    """Meet the run's other processes and leave them in order."""
    rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    os.environ.setdefault("LOCAL_RANK", "0")  # DeepSpeed insists on it, also for a single process.
    device = torch.device("cpu")
    if may_use_gpu and torch.cuda.is_available():
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    # DeepSpeed compiles a C++ shared-memory operator at every distributed start, even with gloo, which takes 25 s and
    # more. We use torch's collectives only, so it is told that there is none.
    sys.modules["deepspeed.comm.torch"].build_shm_op = lambda: None  # type: ignore[attr-defined]
    with tempfile.TemporaryDirectory(prefix="scaling-") as folder:
        meeting = {} if world > 1 else {"init_method": (Path(folder) / "store").as_uri()}
        deepspeed.init_distributed(
            dist_backend="nccl" if device.type == "cuda" else "gloo",
            auto_mpi_discovery=False,
            verbose=False,
            timeout=COLLECTIVE_TIMEOUT,
            rank=rank,
            world_size=world,
            **meeting,
        )
        try:
            host_group = None
            if device.type == "cuda" and world > 1:
                host_group = torch.distributed.new_group(backend="gloo", timeout=COLLECTIVE_TIMEOUT)
            yield Processes(rank, world, device, host_group, loader_threads)
        finally:
            deepspeed.comm.destroy_process_group()


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
