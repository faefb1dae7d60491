"""The machine at hand: on which device to measure, and what figures depend on besides the code."""

import importlib.metadata
import os
import platform
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from scaling.errors import UserError


def describe_machine(libraries: Sequence[str]) -> dict[str, Any]:
    """Processor, cores, and versions of Python and of the libraries that are measured."""
    names = re.findall(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return {
        "processor": names[0] if names else platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in libraries},
    }


def prepare_device(name: str) -> None:
    """Settle on `auto`, `cpu` or `cuda` and load the trainer for it; call before importing anything of training."""
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: PyTorch finds no GPU; leave --device out to measure on the CPU")
    if name == "cpu":
        os.environ["DS_ACCELERATOR"] = "cpu"  # DeepSpeed settles on an accelerator at its import.
    import scaling.train.preload  # noqa: F401
