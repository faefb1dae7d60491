"""The hardware that a run was executed on, for its result."""

import os
import platform
from typing import Any

import torch

from scaling.models.cpu_arithmetic import cpu_flags


def describe_hardware() -> dict[str, Any]:
    """Machine facts that explain a throughput; no host names."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    facts: dict[str, Any] = {
        "system": f"{platform.system()} {platform.machine()}",
        "cores_usable": len(os.sched_getaffinity(0)),
        "cores_total": os.cpu_count(),
        "memory_bytes": memory,
    }
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(torch.cuda.current_device())
        facts |= {"gpu": properties.name, "gpu_memory_bytes": properties.total_memory, "cuda": torch.version.cuda}
    else:
        facts["cpu_has_avx512_bf16"] = "avx512_bf16" in cpu_flags()
    return facts
