"""Imports everything that training needs, once, for processes that are forked from this one.

Named as the preload module of the launcher's fork server. It starts no thread and touches no GPU: both would break
a later fork. What is imported stays for good, so that the collector never needs to look at it: looking while it comes
takes a seventh of the whole, and again and again in training, and copies every page that forked processes share.
"""

import gc
import logging
import os
import signal
import warnings

from scaling.train.processes.placement import may_have_gpu

# DeepSpeed asks at import which accelerator there is. Each run corrects it by the device that it really uses.
os.environ.setdefault("DS_ACCELERATOR", "cuda" if may_have_gpu() else "cpu")
os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
logging.getLogger("DeepSpeed").setLevel(logging.ERROR)

# Ctrl-C reaches every process of a terminal; what it means here is for the launcher to say.
interrupt = signal.signal(signal.SIGINT, signal.SIG_IGN)
gc.disable()
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import scaling.train.session
gc.freeze()
gc.enable()
signal.signal(signal.SIGINT, interrupt)

logging.getLogger("DeepSpeed").setLevel(logging.ERROR)

__all__ = ["scaling"]
