"""Imports everything that training needs, once, for processes that are forked from this one.

Named as the preload module of the launcher's fork server. It starts no thread and touches no GPU: both would break
a later fork.
"""

import logging
import os
import shutil
import warnings

# DeepSpeed asks at import which accelerator there is; asking CUDA itself would initialise it before the fork.
os.environ.setdefault("DS_ACCELERATOR", "cuda" if shutil.which("nvidia-smi") else "cpu")
os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
logging.getLogger("DeepSpeed").setLevel(logging.ERROR)

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import scaling.train.session

logging.getLogger("DeepSpeed").setLevel(logging.ERROR)

__all__ = ["scaling"]
