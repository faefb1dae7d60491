"""Decoded images that the processes of one node remember together: each is decoded and held once."""

import logging
import os
from pathlib import Path
from typing import Any

from scaling.data.format.manifest import Manifest
from scaling.data.read.pixel_cache import Address, SharedPixels
from scaling.data.read.pixels import DEFAULT_CACHE_BYTES, PixelSource
from scaling.train.processes.agreement import exchange
from scaling.train.processes.process_group import Processes

logger = logging.getLogger(__name__)


def with_node_memory(manifest: Manifest, processes: Processes) -> PixelSource:
    """The training set, whose decoded images are remembered by all processes of this node together, or by this one
    where it is alone and decodes itself. All processes of the run call it together."""
    here = _this_node()
    ranks = [rank for rank, node in enumerate(exchange(here, processes)) if node == here]
    max_bytes = DEFAULT_CACHE_BYTES * len(ranks)
    if processes.pixel_cache_gb is not None:
        max_bytes = int(processes.pixel_cache_gb * 1e9)
    is_shared = len(ranks) > 1 or processes.decode_processes is not None
    made = SharedPixels.make(manifest, max_bytes) if is_shared and processes.rank == ranks[0] else None
    shared = made
    told = exchange(None if made is None else _as_json(made.address), processes)[ranks[0]]
    if is_shared and made is None:
        process, descriptor, token, max_bytes = told
        shared = SharedPixels.open(manifest, Address(process, descriptor, bytes.fromhex(token), max_bytes))
    logger.info(
        "decoded training images are remembered in up to %.1f GB of memory%s",
        max_bytes / 1e9,
        f", shared by {len(ranks)} training and {len(ranks) * processes.num_decode_processes} decode processes"
        if is_shared
        else "",
    )
    return PixelSource(manifest, max_bytes // len(ranks), shared)


def _as_json(address: Address) -> list[Any]:
    return [address.process, address.descriptor, address.token.hex(), address.max_bytes]


def _this_node() -> str:
    """Names what has one memory and one numbering of processes: a container may have a numbering of its own."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return f"{boot} {os.readlink('/proc/self/ns/pid')}"  # noqa: PTH115
