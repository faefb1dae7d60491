"""Pre-trained models for another task: a new head, and the same weights at another input resolution.

Resolution change follows the papers. Mixer (appendix C): the image becomes K x K blocks of the old grid, and each
token-mixing kernel is repeated K^2 times along a block diagonal, so that at first every block is mixed as before;
only integer K exists. ViT (section 3.2): position embeddings are interpolated bilinearly, corners kept, as the
reference code does. BiT and other families keep their weights as they are, if these fit.
"""

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

import torch
from torch.nn import functional

from scaling.errors import UserError
from scaling.models.build import build_model
from scaling.models.networks.mixer_conv import to_conv, to_linear
from scaling.models.networks.vision_model import VisionModel
from scaling.models.registry import find_model
from scaling.models.resolution import options_at, options_for_transfer
from scaling.models.shapes import check_patch_grid

State = dict[str, torch.Tensor]


def replace_head(model: VisionModel, num_classes: int) -> VisionModel:
    """The body under a zero-initialised linear head; ViT's tanh layer goes too (ViT appendix B.1.1).

    The new model shares no memory with `model` and sits on its device.
    """
    options = options_for_transfer(model.arguments.name, model.arguments.options)
    state = {name: value for name, value in model.state_dict().items() if name.startswith("body.")}
    return _rebuild(model, state, num_classes=num_classes, head_bias=0.0, options=options)


def change_resolution(model: VisionModel, image_size: int) -> VisionModel:
    """The same model for square images of `image_size` pixels; shares no memory with `model`.

    Raises `UserError` where the family has no rule for this step.
    """
    state = model.state_dict()
    if image_size == model.arguments.image_size:
        return _rebuild(model, state)
    if model.family in ("mixer", "mixer-conv"):
        return _change_mixer(model, state, image_size)
    if model.family == "vit":
        return _change_vit(model, state, image_size)
    try:
        return _rebuild(model, state, image_size=image_size)
    except RuntimeError as error:
        raise UserError(
            f"image_size = {image_size} for model {model.arguments.name!r}: its weights belong to "
            f"{model.arguments.image_size} px and family {model.family!r} has no rule to change them; keep that size"
        ) from error


def _change_mixer(model: VisionModel, state: State, image_size: int) -> VisionModel:
    """S' = K^2 S and D_S' = K^2 D_S, with K = new side / old side."""
    arguments = model.arguments
    options = options_at(arguments.name, arguments.options, arguments.image_size, image_size)
    factor = image_size // arguments.image_size
    side = arguments.image_size // find_model(arguments.name)[1].shape.patch_size
    if model.family == "mixer-conv":
        new_state = to_conv(mixer_state_at(to_linear(state), side, factor), factor * side)
    else:
        new_state = mixer_state_at(state, side, factor)
    return _rebuild(model, new_state, image_size=image_size, options=options)


def mixer_state_at(state: Mapping[str, torch.Tensor], side: int, factor: int) -> State:
    """State of a Mixer on a `side` x `side` grid of tokens for a grid `factor` times as wide and high.

    With P the permutation from raster order to block order: W1' = (I (x) W1) P, W2' = P^T (I (x) W2), and
    b2' = P^T (b2, …, b2), so the network still takes tokens in raster order.
    """
    num_blocks = factor**2
    raster = torch.argsort(block_order(side, factor))
    changed = dict(state)
    for name, value in state.items():
        diagonal = torch.eye(num_blocks, dtype=value.dtype, device=value.device)
        kind = name.partition(".mlp_tokens.")[2]
        if kind == "fc1.weight":
            changed[name] = torch.kron(diagonal, value)[..., raster.to(value.device)]
        elif kind == "fc1.bias":
            changed[name] = torch.cat([value] * num_blocks, dim=-1)
        elif kind == "fc2.weight":
            changed[name] = torch.kron(diagonal, value)[..., raster.to(value.device), :]
        elif kind == "fc2.bias":
            changed[name] = torch.cat([value] * num_blocks, dim=-1)[..., raster.to(value.device)]
    return changed


def block_order(side: int, factor: int) -> torch.Tensor:
    """(factor^2 * side^2,): the raster index of each token when blocks of `side` x `side` are read one by one."""
    raster = torch.arange((factor * side) ** 2).reshape(factor, side, factor, side)
    return raster.transpose(1, 2).flatten()


def _change_vit(model: VisionModel, state: State, image_size: int) -> VisionModel:
    shape = find_model(model.arguments.name)[1].shape
    check_patch_grid(model.arguments.name, image_size, shape.patch_size)
    old_side, new_side = model.arguments.image_size // shape.patch_size, image_size // shape.patch_size
    embeddings = state["body.pos_embed"]
    class_token, grid = embeddings[:, :1], embeddings[:, 1:]
    maps = grid.transpose(1, 2).unflatten(2, (old_side, old_side))
    maps = functional.interpolate(maps, size=(new_side, new_side), mode="bilinear", align_corners=True)
    new_grid = maps.flatten(2).transpose(1, 2)
    new_state = state | {"body.pos_embed": torch.cat([class_token, new_grid], dim=1)}
    return _rebuild(model, new_state, image_size=image_size)


def _rebuild(model: VisionModel, state: State, **changes: Any) -> VisionModel:
    """`model` built again with `changes` to its arguments, on its device; what `state` lacks starts anew."""
    with torch.random.fork_rng(devices=[]):
        rebuilt = build_model(**asdict(replace(model.arguments, **changes)))
    parameter = next(model.parameters())
    rebuilt.to(parameter.device, parameter.dtype)
    rebuilt.load_state_dict(rebuilt.state_dict() | state)
    return rebuilt.train(model.training)
