"""Where the processes of one start meet, and that none of another start is among them.

They meet at a TCP store at MASTER_ADDR:MASTER_PORT, which knows processes by their rank alone: two starts that were
given the same place, or ranks that were started on two run directories, would sum the gradients of two runs, and
nothing would fail. So the first process says there what it trains and with what software, and every other one compares
and takes a place that nobody else has taken.
"""

import json
import logging
import os
import time
from collections.abc import Mapping
from datetime import timedelta

from torch.distributed import PrefixStore, Store, TCPStore

import scaling
from scaling.records.attempts.provenance import describe_packages
from scaling.train.processes.failures import MachineError
from scaling.train.processes.placement import Placement

logger = logging.getLogger(__name__)

TOLD_EVERY_SECONDS = 30.0
"""How often the first process says for whom it waits."""

_FIRST, _REFUSED = "first", "refused"


def meet(placement: Placement, run: str, timeout: timedelta) -> Store:
    """The store through which the processes of `run` set up their connections, on every process of the start once the
    first one has it.

    MachineError for a process of another run, another number of processes or other software than the first one's, for a
    rank that is there twice, and for partners that do not come within `timeout`.
    """
    place = f"{placement.master_address}:{placement.master_port}"
    store = _open_store(placement, timeout)
    own = {
        "run": run,
        "host": os.uname().nodename,
        "number of processes": str(placement.world),
        "scaling": scaling.__version__,
        **describe_packages(),
    }
    if placement.rank == 0:
        store.set(_FIRST, json.dumps(own))
    else:
        first = json.loads(store.get(_FIRST))
        if own["run"] != first["run"]:
            raise MachineError(
                f"process {placement.rank} was started for {run}, and those that meet at {place} are of "
                f"{first['run']}; give each start a port of its own (MASTER_PORT), and all processes of one the same "
                "run directory"
            )
        if difference := _difference(own, first):
            told = f"process {placement.rank} on {difference}; the processes of a run need the same software"
            store.set(_REFUSED, told)
            raise MachineError(told)
    if store.add(_seat(placement.rank), 1) > 1:
        raise MachineError(
            f"a process of rank {placement.rank} has come to {place} already; start each rank once, and give each "
            "start a port of its own (MASTER_PORT)"
        )
    if placement.rank == 0:
        _await_all(store, placement.world, place, timeout)
    return PrefixStore("groups", store)


def _open_store(placement: Placement, timeout: timedelta) -> Store:
    """The store at MASTER_ADDR:MASTER_PORT, served by the first process or by torchrun's agent.

    PyTorch's own rendezvous opens the same one, but waits in silence until as many processes have come, whoever they
    are.
    """
    is_served = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    restart = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    store = TCPStore(
        placement.master_address,
        placement.master_port,
        placement.world,
        is_master=placement.rank == 0 and not is_served,
        timeout=timeout,
        wait_for_workers=False,
    )
    return PrefixStore(f"scaling {restart}", store)


def _difference(own: Mapping[str, str], first: Mapping[str, str]) -> str:
    """What the first process has otherwise; empty when nothing."""
    for what in sorted((own.keys() | first.keys()) - {"run", "host"}):
        mine, its = own.get(what, "none"), first.get(what, "none")
        if mine != its:
            return f"{own['host']} has {what} {mine}, the first one on {first['host']} has {what} {its}"
    return ""


def _await_all(store: Store, world: int, place: str, timeout: timedelta) -> None:
    """Until every rank has taken its place; MachineError when one that belongs here was refused, or time is up."""
    began = told = time.monotonic()
    seats = [_seat(rank) for rank in range(world)]
    while not store.check(seats):
        if store.check([_REFUSED]):
            raise MachineError(store.get(_REFUSED).decode())
        now = time.monotonic()
        is_over = now - began > timeout.total_seconds()
        if is_over or now - told > TOLD_EVERY_SECONDS:
            told = now
            missing = ", ".join(str(rank) for rank in range(world) if not store.check([seats[rank]]))
            if is_over:
                raise MachineError(
                    f"of {world} processes number {missing} did not come to {place} within "
                    f"{timeout.total_seconds():g} s; look at their own output"
                )
            logger.warning("of %d processes number %s have not come to %s yet", world, missing, place)
        time.sleep(0.02)


def _seat(rank: int) -> str:
    return f"rank {rank}"
