"""How the papers' own `.npz` checkpoints name and lay out the parameters of our models.

Mixer and ViT as in google-research/vision_transformer (the Flax names of the released files), BiT as in
google-research/big_transfer. Kernels are stored input-first, convolutions HWIO, attention with one axis per head.
Nothing here reads or writes a file.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from scaling.models.networks.vision_model import VisionModel
from scaling.models.registry import find_model
from scaling.models.shapes import BitShape, MixerShape, VitShape

Arrays = tuple[np.ndarray, ...]


@dataclass(frozen=True)
class Entry:
    """One parameter of ours and the arrays it is stored in."""

    parameter: str
    arrays: tuple[str, ...]
    read: Callable[[Arrays], np.ndarray]
    """Stored arrays to the parameter."""
    write: Callable[[np.ndarray], Arrays]
    """The inverse of `read`."""


def canonical_name(stored: str) -> str:
    """`stored` without the variations that released files have.

    An optional `opt/target/` or `params/` in front; Flax linen's numbering of ViT's sub-layers, where the released
    files count through all of them; numbered standardised convolutions in BiT.
    """
    name = re.sub(r"^(opt/target|params)/", "", stored)
    if name.startswith("Transformer/encoderblock_"):
        name = name.replace("/LayerNorm_1/", "/LayerNorm_2/").replace("/MlpBlock_0/", "/MlpBlock_3/")
        name = name.replace("/MultiHeadDotProductAttention_0/", "/MultiHeadDotProductAttention_1/")
    return re.sub(r"/standardized_conv2d_\d+/", "/standardized_conv2d/", name)


def layout_of(model: VisionModel) -> list[Entry] | None:
    """Entries of all parameters of `model`; None for families and ablations without a published layout."""
    options = model.arguments.options
    ablated = options.get("token_mlps", 1) != 1 or options.get("token_concat", 1) != 1
    if model.family not in ("mixer", "vit", "bit") or ablated:
        return None
    shape = find_model(model.arguments.name)[1].shape
    if isinstance(shape, MixerShape):
        return _mixer(shape)
    if isinstance(shape, VitShape):
        return _vit(shape, has_pre_logits="pre_logits.fc.weight" in model.state_dict())
    assert isinstance(shape, BitShape)
    return _bit(shape)


def _mixer(shape: MixerShape) -> list[Entry]:
    entries = [_conv("body.stem.proj.weight", "stem/kernel"), _same("body.stem.proj.bias", "stem/bias")]
    for index in range(shape.num_layers):
        ours, theirs = f"body.blocks.{index}", f"MixerBlock_{index}"
        entries += _norm(f"{ours}.norm1", f"{theirs}/LayerNorm_0")
        entries += _mlp(f"{ours}.mlp_tokens", f"{theirs}/token_mixing")
        entries += _norm(f"{ours}.norm2", f"{theirs}/LayerNorm_1")
        entries += _mlp(f"{ours}.mlp_channels", f"{theirs}/channel_mixing")
    return [*entries, *_norm("body.norm", "pre_head_layer_norm"), *_dense("head", "head")]


def _vit(shape: VitShape, has_pre_logits: bool) -> list[Entry]:
    entries = [
        _conv("body.patch_embed.proj.weight", "embedding/kernel"),
        _same("body.patch_embed.proj.bias", "embedding/bias"),
        _same("body.cls_token", "cls"),
        _same("body.pos_embed", "Transformer/posembed_input/pos_embedding"),
    ]
    for index in range(shape.num_layers):
        ours, theirs = f"body.blocks.{index}", f"Transformer/encoderblock_{index}"
        entries += _norm(f"{ours}.norm1", f"{theirs}/LayerNorm_0")
        entries += _attention(f"{ours}.attn", f"{theirs}/MultiHeadDotProductAttention_1", shape)
        entries += _norm(f"{ours}.norm2", f"{theirs}/LayerNorm_2")
        entries += _mlp(f"{ours}.mlp", f"{theirs}/MlpBlock_3")
    entries += _norm("body.norm", "Transformer/encoder_norm")
    if has_pre_logits:
        entries += _dense("pre_logits.fc", "pre_logits")
    return [*entries, *_dense("head", "head")]


def _bit(shape: BitShape) -> list[Entry]:
    entries = [_std_conv("body.stem.conv", "resnet/root_block")]
    for stage, num_blocks in enumerate(shape.blocks):
        for block in range(num_blocks):
            ours, theirs = (
                f"body.stages.{stage}.blocks.{block}",
                f"resnet/block{stage + 1}/unit{block + 1:02d}",
            )
            for number, letter in enumerate("abc", start=1):
                entries += _group_norm(f"{ours}.norm{number}", f"{theirs}/{letter}/group_norm")
                entries.append(_std_conv(f"{ours}.conv{number}", f"{theirs}/{letter}"))
            if block == 0:
                entries.append(_std_conv(f"{ours}.downsample.conv", f"{theirs}/a/proj"))
    head_kernel = Entry(
        "head.weight",
        ("resnet/head/conv2d/kernel",),
        lambda arrays: arrays[0][0, 0].T,
        lambda weight: (weight.T[None, None],),
    )
    head_bias = _same("head.bias", "resnet/head/conv2d/bias")
    return [*entries, *_group_norm("body.norm", "resnet/group_norm"), head_kernel, head_bias]


def _attention(ours: str, theirs: str, shape: VitShape) -> list[Entry]:
    """Query, key and value stand one after the other in ours."""
    width, heads = shape.hidden_dim, shape.num_heads
    names = [f"{theirs}/{part}" for part in ("query", "key", "value")]
    return [
        Entry(
            f"{ours}.qkv.weight",
            tuple(f"{name}/kernel" for name in names),
            lambda arrays: np.concatenate([array.reshape(width, width).T for array in arrays]),
            lambda weight: tuple(part.T.reshape(width, heads, -1) for part in np.split(weight, 3)),
        ),
        Entry(
            f"{ours}.qkv.bias",
            tuple(f"{name}/bias" for name in names),
            lambda arrays: np.concatenate([array.reshape(width) for array in arrays]),
            lambda bias: tuple(part.reshape(heads, -1) for part in np.split(bias, 3)),
        ),
        Entry(
            f"{ours}.proj.weight",
            (f"{theirs}/out/kernel",),
            lambda arrays: arrays[0].reshape(width, width).T,
            lambda weight: (weight.T.reshape(heads, -1, width),),
        ),
        _same(f"{ours}.proj.bias", f"{theirs}/out/bias"),
    ]


def _mlp(ours: str, theirs: str) -> list[Entry]:
    return [*_dense(f"{ours}.fc1", f"{theirs}/Dense_0"), *_dense(f"{ours}.fc2", f"{theirs}/Dense_1")]


def _dense(ours: str, theirs: str) -> list[Entry]:
    kernel = Entry(f"{ours}.weight", (f"{theirs}/kernel",), lambda arrays: arrays[0].T, lambda weight: (weight.T,))
    return [kernel, _same(f"{ours}.bias", f"{theirs}/bias")]


def _conv(ours: str, theirs: str) -> Entry:
    return Entry(
        ours,
        (theirs,),
        lambda arrays: arrays[0].transpose(3, 2, 0, 1),
        lambda weight: (weight.transpose(2, 3, 1, 0),),
    )


def _std_conv(ours: str, theirs: str) -> Entry:
    return _conv(f"{ours}.weight", f"{theirs}/standardized_conv2d/kernel")


def _norm(ours: str, theirs: str) -> list[Entry]:
    return [_same(f"{ours}.weight", f"{theirs}/scale"), _same(f"{ours}.bias", f"{theirs}/bias")]


def _group_norm(ours: str, theirs: str) -> list[Entry]:
    return [_same(f"{ours}.weight", f"{theirs}/gamma"), _same(f"{ours}.bias", f"{theirs}/beta")]


def _same(ours: str, theirs: str) -> Entry:
    return Entry(ours, (theirs,), lambda arrays: arrays[0], lambda value: (value,))
