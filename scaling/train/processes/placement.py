"""Which process of a run this one is, and which GPUs it was given, read from the environment of whatever started it.

torchrun, Ray and the local back end set RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT. srun and Open MPI
describe a process by variables of their own, from which the same is derived, so that a plain
`srun python -m scaling.train RUN_DIR` on eight tasks is one run of eight processes. Imports no PyTorch and touches no
GPU.
"""

import os
import re
import socket
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from scaling.errors import UserError

FIRST_PORT, NUM_PORTS = 20_000, 12_000
"""Below the ports that Linux gives to outgoing connections (32,768 and above)."""


@dataclass(frozen=True, slots=True)
class Placement:
    """One process among those of its run."""

    rank: int = 0
    world: int = 1
    local_rank: int = 0
    """Among the processes of its node."""
    local_world: int = 1
    """Processes of its node."""
    master_address: str = ""
    """Host of the first process; empty for a single process."""
    master_port: int = 0

    def environment(self) -> dict[str, str]:
        """The variables that torch.distributed and DeepSpeed read."""
        found = {"RANK": str(self.rank), "WORLD_SIZE": str(self.world), "LOCAL_RANK": str(self.local_rank)}
        if self.world > 1:
            found |= {"MASTER_ADDR": self.master_address, "MASTER_PORT": str(self.master_port)}
        return found


def find_placement(environment: Mapping[str, str] = os.environ) -> Placement:
    """The placement that the environment describes; a single process when nothing in it speaks of others.

    RANK outweighs a scheduler's own variables. UserError when the variables contradict each other.
    """
    if "RANK" in environment or "WORLD_SIZE" in environment:
        placement = _from_torch(environment)
    elif "SLURM_STEP_ID" in environment and "SLURM_PROCID" in environment:
        # In a batch script, outside of any step, SLURM_NTASKS counts tasks that srun has yet to start.
        placement = _from_slurm(environment)
    elif "OMPI_COMM_WORLD_RANK" in environment:
        placement = _from_open_mpi(environment)
    else:
        placement = Placement()
    if not 0 <= placement.rank < placement.world:
        raise UserError(
            f"rank {placement.rank} of {placement.world} processes: ranks run from 0 to one below their number; set "
            "RANK and WORLD_SIZE together, or start the run with torchrun or srun"
        )
    return placement


def _from_torch(environment: Mapping[str, str]) -> Placement:
    world = _number(environment, "WORLD_SIZE", 1)
    placement = Placement(
        rank=_number(environment, "RANK", 0),
        world=world,
        local_rank=_number(environment, "LOCAL_RANK", 0),
        local_world=_number(environment, "LOCAL_WORLD_SIZE", world),
        master_address=environment.get("MASTER_ADDR", ""),
        master_port=_number(environment, "MASTER_PORT", 0),
    )
    if world > 1 and not (placement.master_address and placement.master_port):
        raise UserError(
            f"WORLD_SIZE = {world} without MASTER_ADDR and MASTER_PORT: the processes cannot meet; start the run with "
            "torchrun or srun, or set both to a host and a free port of the first process"
        )
    return placement


def _from_slurm(environment: Mapping[str, str]) -> Placement:
    tasks = "SLURM_STEP_NUM_TASKS" if "SLURM_STEP_NUM_TASKS" in environment else "SLURM_NTASKS"
    world = _number(environment, tasks, 1)
    job, step = _number(environment, "SLURM_JOB_ID", 0), _number(environment, "SLURM_STEP_ID", 0)
    per_node = environment.get("SLURM_STEP_TASKS_PER_NODE", environment.get("SLURM_TASKS_PER_NODE", "1"))
    return Placement(
        rank=_number(environment, "SLURM_PROCID", 0),
        world=world,
        local_rank=_number(environment, "SLURM_LOCALID", 0),
        local_world=_tasks_of_node(per_node, _number(environment, "SLURM_NODEID", 0)),
        master_address=_slurm_master(environment),
        master_port=_number(environment, "MASTER_PORT", FIRST_PORT + (31 * job + step) % NUM_PORTS),
    )


def _from_open_mpi(environment: Mapping[str, str]) -> Placement:
    world = _number(environment, "OMPI_COMM_WORLD_SIZE", 1)
    address = environment.get("MASTER_ADDR", "")
    local_world = _number(environment, "OMPI_COMM_WORLD_LOCAL_SIZE", 1)
    if world > 1 and not address:
        if local_world < world:
            raise UserError(
                f"Open MPI started {world} processes on several nodes and does not tell them where the first one is; "
                "add -x MASTER_ADDR=HOST to mpirun, with the host of rank 0"
            )
        address = "127.0.0.1"
    job = environment.get("OMPI_MCA_ess_base_jobid", environment.get("PMIX_NAMESPACE", ""))
    return Placement(
        rank=_number(environment, "OMPI_COMM_WORLD_RANK", 0),
        world=world,
        local_rank=_number(environment, "OMPI_COMM_WORLD_LOCAL_RANK", 0),
        local_world=local_world,
        master_address=address,
        master_port=_number(environment, "MASTER_PORT", FIRST_PORT + zlib.crc32(job.encode()) % NUM_PORTS),
    )


def _slurm_master(environment: Mapping[str, str]) -> str:
    """The step's first node, on which rank 0 runs; where its name means nothing to the network, the node that srun was
    called on, which is the same one in a batch script."""
    if "MASTER_ADDR" in environment:
        return environment["MASTER_ADDR"]
    first = first_host(environment.get("SLURM_STEP_NODELIST", environment.get("SLURM_JOB_NODELIST", "")))
    caller = environment.get("SLURM_LAUNCH_NODE_IPADDR", "")
    if first:
        try:
            socket.getaddrinfo(first, None)
            return first
        except OSError:
            pass
    return caller or first or "127.0.0.1"


def first_host(nodes: str) -> str:
    """The first host of Slurm's list: `n[03-07,12],m1` -> `n03`."""
    found = re.match(r"([^,\[]+)(?:\[([^\],-]+)[^\]]*\]([^,]*))?", nodes)
    if found is None:
        return ""
    prefix, number, suffix = found.groups(default="")
    return f"{prefix}{number}{suffix}"


def _tasks_of_node(counts: str, node: int) -> int:
    """Tasks of node number `node` in Slurm's form: `4(x2),1`."""
    for part in counts.split(","):
        found = re.fullmatch(r"(\d+)(?:\(x(\d+)\))?", part.strip())
        if found is None:
            return 1
        repeats = int(found[2] or 1)
        if node < repeats:
            return int(found[1])
        node -= repeats
    return 1


def _number(environment: Mapping[str, str], name: str, default: int) -> int:
    text = environment.get(name, "")
    if not text:
        return default
    if not (text.isascii() and text.isdecimal()):
        raise UserError(f"the environment variable {name} is {text[:40]!r}; it has to be a whole number, or not be set")
    return int(text)


VISIBILITY = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES")


HIDDEN = ("", "-1", "NoDevFiles")
"""Values of those that stand for no GPU; the last is Slurm's."""


def given_gpus() -> str:
    """The GPUs that whoever started this process gave it by name; empty where nobody did, or there are none here."""
    named = [os.environ[name] for name in VISIBILITY if os.environ.get(name, "").strip() not in HIDDEN]
    return named[0] if named and may_have_gpu() else ""


def may_have_gpu() -> bool:
    """Whether this machine shows a GPU that is not hidden from this process, by its device files: asking CUDA itself
    would initialise it before the fork, and `nvidia-smi` is missing in slim containers and on AMD's machines."""
    hidden = any(os.environ.get(name, "0").strip() in HIDDEN for name in VISIBILITY)
    return not hidden and any(any(Path("/dev").glob(pattern)) for pattern in ("nvidia[0-9]*", "kfd", "dxg"))
