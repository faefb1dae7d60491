"""How a model is executed: memory layout of images, activation checkpointing, compilation.

None of it is part of a run's identity: the function stays the same, and numbers change by roundings as they do between
devices. Parameters keep their names, so checkpoints and kept weights read the same whatever was chosen.
"""

import torch

from scaling.models.vision_model import VisionModel
from scaling.records.run_plan import RunPlan


def memory_format(plan: RunPlan) -> torch.memory_format:
    """Layout of a batch's images, which feature maps inherit; weights keep theirs, as DeepSpeed cannot send others.

    Channels last costs no copy, since the loader delivers it, and a step of BiT takes a quarter longer without it on a
    CPU (fp32, 32 px).
    """
    return torch.channels_last if plan.engine.channels_last else torch.contiguous_format


def prepare_model(model: VisionModel, plan: RunPlan, device: torch.device) -> VisionModel:
    """The model on its device, set up as the plan says."""
    model.to(device)
    if plan.engine.activation_checkpointing:
        model.checkpoint_activations()
    if plan.engine.compile:
        # In place: a wrapping module would prefix the names of all parameters.
        model.compile()
    return model
