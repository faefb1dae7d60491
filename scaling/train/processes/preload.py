"""Imports everything that training needs, once, for processes that are forked from this one.

Named as the preload module of the launcher's fork server. It starts no thread and touches no GPU: both would break
a later fork.
"""

import logging
import os
import warnings
from pathlib import Path

VISIBILITY = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES")


def may_have_gpu() -> bool:
    """Whether this machine shows a GPU that is not hidden from this process, by its device files: asking CUDA itself
    would initialise it before the fork, and `nvidia-smi` is missing in slim containers and on AMD's machines."""
    hidden = any(os.environ.get(name, "0").strip() in ("", "-1") for name in VISIBILITY)
    return not hidden and any(any(Path("/dev").glob(pattern)) for pattern in ("nvidia[0-9]*", "kfd", "dxg"))


# DeepSpeed asks at import which accelerator there is. Each run corrects it by the device that it really uses.
os.environ.setdefault("DS_ACCELERATOR", "cuda" if may_have_gpu() else "cpu")
os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
logging.getLogger("DeepSpeed").setLevel(logging.ERROR)

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import scaling.train.session

logging.getLogger("DeepSpeed").setLevel(logging.ERROR)

__all__ = ["scaling"]
