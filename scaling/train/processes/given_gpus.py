"""Which GPUs a process was given, told from its environment and the machine's device files: nothing touches a GPU."""

import os
from pathlib import Path

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
