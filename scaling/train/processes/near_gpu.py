"""Keeping a process on the cores beside its GPU: memory of another socket reaches the GPU through a slower link.

Linux tells which cores those are by the GPU's address on the PCI bus. What a scheduler gave the process stays the
limit: where none of its cores is beside the GPU, it keeps them all.
"""

import logging
import os
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)

PCI_DEVICES = Path("/sys/bus/pci/devices")


def pci_address(properties: Any) -> str | None:
    """Of `torch.cuda.get_device_properties`, as Linux writes it; None from a PyTorch that does not tell it."""
    try:
        domain, bus, device = properties.pci_domain_id, properties.pci_bus_id, properties.pci_device_id
    except AttributeError:
        return None
    return f"{domain:04x}:{bus:02x}:{device:02x}.0"


def stay_beside(address: str, pci_devices: Path = PCI_DEVICES) -> None:
    """Let the calling thread, and threads and processes that it starts from now on, use those of its cores alone that
    are beside the device at this address."""
    try:
        beside = parse_cpu_list((pci_devices / address / "local_cpulist").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return  # A container may hide it.
    usable = os.sched_getaffinity(0)
    near = usable & beside
    if not near:
        logger.info("none of this process's %d cores is beside its GPU (%s)", len(usable), address)
    elif near != usable:
        os.sched_setaffinity(0, near)
        logger.info("on the %d of its %d cores that are beside its GPU (%s)", len(near), len(usable), address)


def parse_cpu_list(text: str) -> set[int]:
    """The numbers in Linux's form, `0-3,8`; ValueError for another one."""
    numbers: set[int] = set()
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        numbers.update(range(int(first), int(last or first) + 1))
    return numbers
