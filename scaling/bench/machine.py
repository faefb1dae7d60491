"""Measuring on the machine at hand: its device, what figures depend on besides the code, and times and their ratios."""

import importlib.metadata
import os
import platform
import re
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scaling.errors import UserError

if TYPE_CHECKING:
    import torch


def describe_machine(libraries: Sequence[str]) -> dict[str, Any]:
    """Processor, cores, and versions of Python and of those libraries that are installed."""
    names = re.findall(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return {
        "processor": names[0] if names else platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        **{name: version for name in libraries if (version := _version(name))},
    }


def _version(library: str) -> str:
    """Empty when it is not installed."""
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return ""


def prepare_device(name: str) -> None:
    """Settle on `auto`, `cpu` or `cuda` and load the trainer for it; call before importing anything of training."""
    import torch

    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: PyTorch finds no GPU; leave --device out to measure on the CPU")
    if name == "cpu":
        os.environ["DS_ACCELERATOR"] = "cpu"  # DeepSpeed settles on an accelerator at its import.
    import scaling.train.processes.preload  # noqa: F401


def timed(work: Callable[[], Any], repeats: int, device: "torch.device") -> tuple[float, float]:
    """Wall seconds, and CPU seconds of the process, of one of `repeats` turns that the device has done."""
    started = time.perf_counter(), time.process_time()
    for _ in range(repeats):
        work()
    if device.type == "cuda":
        import torch

        torch.cuda.synchronize(device)
    return (time.perf_counter() - started[0]) / repeats, (time.process_time() - started[1]) / repeats


def ratio_summary(values: Sequence[float], base: Sequence[float]) -> dict[str, float]:
    """Median and quartiles of the ratios, round by round."""
    ratios = [ours / theirs for ours, theirs in zip(values, base, strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive") if len(ratios) > 1 else ratios * 3
    return {"median": middle, "lower_quartile": low, "upper_quartile": high}
