"""How a model is executed: memory layout of images, activation checkpointing, compilation, reuse of host memory.

None of it is part of a run's identity: the function stays the same, and numbers change by roundings as they do between
devices. Parameters keep their names, so checkpoints and kept weights read the same whatever was chosen.
"""

import ctypes
import os

import torch

from scaling.models.networks.vision_model import VisionModel, settle_tf32
from scaling.records.run_plan import RunPlan

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
"""Numbers of mallopt(3)'s parameters in glibc's malloc.h."""


def memory_format(plan: RunPlan) -> torch.memory_format:
    """Layout of a batch's images, which feature maps inherit; weights keep theirs, as DeepSpeed cannot send others.

    Channels last costs no copy, since the loader delivers it, and a step of BiT takes a quarter longer without it on a
    CPU (fp32, 32 px).
    """
    return torch.channels_last if plan.engine.channels_last else torch.contiguous_format


def settle_arithmetic(plan: RunPlan) -> None:
    """Have a GPU compute in the precision that the plan names, and bit for bit alike where it asks for that.

    `deterministic` refuses kernels whose sums depend on the order in which threads arrive, such as the backward passes
    of flash attention and of some convolutions; it costs speed, and an operation that has no such kernel ends the run.
    """
    settle_tf32(plan.recipe.precision)
    if plan.engine.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # What cuBLAS needs for it; read at its first use.
    torch.use_deterministic_algorithms(plan.engine.deterministic)
    torch.backends.cudnn.deterministic = plan.engine.deterministic
    # Shapes are fixed, so cuDNN may choose its algorithms by trying them; what it finds differs from start to start.
    torch.backends.cudnn.benchmark = not plan.engine.deterministic


def prepare_model(model: VisionModel, plan: RunPlan, device: torch.device) -> VisionModel:
    """The model on its device, set up as the plan says."""
    settle_arithmetic(plan)
    if device.type == "cpu":
        keep_freed_memory()
    model.to(device)
    if plan.engine.activation_checkpointing:
        model.checkpoint_activations()
    if plan.engine.compile:
        # In place: a wrapping module would prefix the names of all parameters.
        model.compile()
    return model


def keep_freed_memory() -> None:
    """Have malloc keep what is freed, as the next step needs the same again; where malloc is not glibc's, do nothing.

    PyTorch takes every activation on a CPU from malloc, which gives large blocks back to the system, and the system
    clears their pages before it lends them again: an eighth of a step of BiT-laptop, 5 % of Mixer-S/32's. The most
    memory that a run holds stays the same within 3 % (`scaling/bench/results`).
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_TRIM_THRESHOLD, -1)
        mallopt(M_MMAP_MAX, 0)
