"""This machine's CPU: its name, and whether it computes in bf16 by itself. Imports no PyTorch."""

import os
from pathlib import Path

BF16_INSTRUCTIONS = ("avx512_bf16", "amx_bf16", "bf16")
"""As Linux names them in /proc/cpuinfo: of x86, and of ARM."""

SLOW_BF16 = (
    "precision bf16 on a CPU without bf16 instructions is several times slower than fp32; set defaults.precision=fp32, "
    "or train on a GPU"
)
"""Measured without AVX-512 on a small Mixer: 263 instead of 1,300 images a second."""


def cpu_flags(path: Path = Path("/proc/cpuinfo")) -> frozenset[str]:
    """What the system says that the CPU can do; empty where it does not say."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return frozenset()
    told = [line.partition(":")[2] for line in lines if line.partition(":")[0].strip() in ("flags", "Features")]
    return frozenset(" ".join(told).split())


def bf16_is_slow() -> bool:
    """Whether this CPU is known to have no instructions for bf16."""
    flags = cpu_flags()
    return bool(flags) and not flags.intersection(BF16_INSTRUCTIONS)


def cpu_name(path: Path = Path("/proc/cpuinfo")) -> str:
    """Model name of the CPU as the system reports it, else the machine's architecture."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    told = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(told, os.uname().machine)
