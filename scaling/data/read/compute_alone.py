"""A decoding thread computes by itself: PyTorch would share out each copy of an image among threads of its own.

They are as many again for each thread that decodes, and waiting for them costs more than the copy: with two a view of
224 px took four times the processor time.
"""

import ctypes

import torch


def compute_alone() -> None:
    """Let PyTorch's operations in the calling thread, and in no other, use this thread alone."""
    torch.get_num_threads()  # A thread's first look at the number sets it from that of the process.
    # torch.set_num_threads would also decide for threads that come later.
    set_threads = getattr(ctypes.CDLL(None), "omp_set_num_threads", None)
    if set_threads is not None:  # PyTorch was built with OpenMP, as all its wheels for Linux are.
        set_threads(1)
