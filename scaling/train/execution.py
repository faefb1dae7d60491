"""How a model is executed: memory layout of images, activation checkpointing, compilation.

None of it is part of a run's identity: the function stays the same, and numbers change by roundings as they do between
devices. Parameters keep their names, so checkpoints and kept weights read the same whatever was chosen.
"""

import torch

from scaling.models.vision_model import VisionModel
from scaling.records.run_plan import RunPlan


def memory_format(plan: RunPlan, device: torch.device) -> torch.memory_format:
    """Layout of a batch's images, which feature maps inherit; weights keep theirs, as DeepSpeed cannot send others.

    `auto` is channels last for BiT on a GPU, whose tensor cores want it.
    """
    wanted = plan.engine.channels_last
    is_on = (plan.model.family == "bit" and device.type == "cuda") if wanted == "auto" else wanted
    return torch.channels_last if is_on else torch.contiguous_format


def prepare_model(model: VisionModel, plan: RunPlan, device: torch.device) -> VisionModel:
    """The model on its device, set up as the plan says."""
    model.to(device)
    if plan.engine.activation_checkpointing:
        model.checkpoint_activations()
    if plan.engine.compile:
        # In place: a wrapping module would prefix the names of all parameters.
        model.compile()
    return model
