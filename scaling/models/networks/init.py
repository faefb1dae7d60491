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
