"""Initial weights of the reference implementations, where timm's differ.

Mixer and BiT leave Flax's defaults in place (LeCun normal kernels, zero biases); ViT sets its own. "LeCun normal"
is Flax's: a normal cut at two standard deviations and rescaled to variance 1/fan_in.
"""

from typing import cast

import torch
from timm.layers import Mlp, lecun_normal_
from timm.layers.attention import Attention
from timm.models.vision_transformer import Block, VisionTransformer
from torch import nn

from scaling.errors import UserError


def init_flax_defaults(module: nn.Module) -> None:
    """Linear and convolution kernels LeCun normal, biases 0, norms at the identity. In place."""
    if next(module.parameters()).is_meta:
        return  # Nothing to draw, and tracing the draws would take most of the time of counting FLOPs.
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            lecun_normal_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.LayerNorm | nn.GroupNorm):
            nn.init.ones_(layer.weight)
            nn.init.zeros_(layer.bias)


WAVE_BASE = 10_000.0
"""The longest wave has a period of 2π times as many patches."""


def sine_cosine_table(rows: int, columns: int, width: int) -> torch.Tensor:
    """(rows * columns, width) position embeddings, row by row, as `posemb_sincos_2d` of big_vision's `models/vit.py`:
    quarters of the width hold sine and cosine of the column, then sine and cosine of the row, at width / 4 wavelengths
    in a geometric series. UserError where the width is no multiple of 4, or below 8."""
    if width % 4 or width < 8:
        raise UserError(f"position_init: sincos2d needs a width that is a multiple of 4, at least 8, not {width}")
    rates = WAVE_BASE ** -(torch.arange(width // 4, dtype=torch.float64) / (width // 4 - 1))
    row, column = (torch.arange(count, dtype=torch.float64) for count in (rows, columns))
    by_column = (column[None, :, None] * rates).expand(rows, columns, -1)
    by_row = (row[:, None, None] * rates).expand(rows, columns, -1)
    waves = torch.cat([by_column.sin(), by_column.cos(), by_row.sin(), by_row.cos()], dim=2)
    return waves.reshape(rows * columns, width).float()


@torch.no_grad()
def init_positions_by_waves(body: VisionTransformer) -> None:
    """Patches start at `sine_cosine_table`, the class token at zero. In place; they are learned from there on."""
    rows, columns = cast("tuple[int, int]", body.patch_embed.grid_size)
    positions = cast(nn.Parameter, body.pos_embed)
    positions.zero_()
    positions[0, -rows * columns :].copy_(sine_cosine_table(rows, columns, positions.shape[-1]))


@torch.no_grad()
def init_vit(body: VisionTransformer) -> None:
    """As in vit_jax/models_vit.py of google-research/vision_transformer. In place.

    Attention and MLP kernels Xavier uniform, MLP biases N(0, 1e-6), position embeddings N(0, 0.02), class token
    0. Flax draws query, key and value as three D x D kernels, so their bound is that of a D x D kernel and not of
    timm's fused 3D x D one.
    """
    init_flax_defaults(body)
    nn.init.zeros_(cast(nn.Parameter, body.cls_token))
    nn.init.normal_(cast(nn.Parameter, body.pos_embed), std=0.02)
    for block in cast("list[Block]", body.blocks):
        attention, mlp = cast(Attention, block.attn), cast(Mlp, block.mlp)
        for kernel in attention.qkv.weight.chunk(3):
            nn.init.xavier_uniform_(kernel)
        nn.init.xavier_uniform_(attention.proj.weight)
        for layer in (mlp.fc1, mlp.fc2):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.normal_(cast(nn.Parameter, layer.bias), std=1e-6)
