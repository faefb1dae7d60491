"""MLP-Mixer as in arXiv 2105.01601, on timm's `MlpMixer`.

A patch embedding, then layers of token mixing and channel mixing, each behind a LayerNorm and with a skip
connection; mean over tokens; linear head. No position embedding and no class token.
"""

from timm.layers import DropPath, GELUTanh
from timm.models.mlp_mixer import MlpMixer
from torch import nn

from scaling.models.networks.init import init_flax_defaults
from scaling.models.networks.token_mixing import TokenMlps
from scaling.models.networks.vision_model import BuildArguments, VisionModel
from scaling.models.options import MixerConvOptions, MixerOptions
from scaling.models.shapes import MixerShape, check_patch_grid


def build(shape: MixerShape, arguments: BuildArguments, options: MixerOptions) -> VisionModel:
    """A Mixer at `arguments.image_size`, a multiple of the patch size.

    `options.head_init` changes nothing: timm's classifier starts at zero as the reference's does.
    """
    body = build_body(shape, arguments, options)
    if options.token_mlps != 1 or options.token_concat != 1:
        _replace_token_mlps(body, shape, options)
    return VisionModel(arguments, family="mixer", body=body, num_features=shape.hidden_dim)


def build_body(shape: MixerShape, arguments: BuildArguments, options: MixerConvOptions) -> MlpMixer:
    """The published network without classifier: images to the mean of its tokens (B, C)."""
    check_patch_grid(arguments.name, arguments.image_size, shape.patch_size)
    token_mlp_dim = options.token_mlp_dim or shape.token_mlp_dim
    body = MlpMixer(
        img_size=arguments.image_size,
        patch_size=shape.patch_size,
        num_blocks=shape.num_layers,
        embed_dim=shape.hidden_dim,
        # timm takes widths as int(ratio * embed_dim); the half keeps rounding from losing a unit.
        mlp_ratio=(
            (token_mlp_dim + 0.5) / shape.hidden_dim,
            (shape.channel_mlp_dim + 0.5) / shape.hidden_dim,
        ),
        act_layer=GELUTanh if options.gelu == "tanh" else nn.GELU,
        proj_drop_rate=options.dropout,
        num_classes=0,
    )
    if options.init == "reference":
        init_flax_defaults(body)
    last = max(shape.num_layers - 1, 1)
    for index, block in enumerate(body.blocks):
        # Appendix B: stochastic depth rises linearly from 0; each branch of a layer draws its own mask.
        rate = arguments.drop_path * (index / last if options.drop_path_rule == "linear" else 1.0)
        if rate:
            block.drop_path = DropPath(rate, scale_by_keep=options.drop_path_rescale)
    return body


def _replace_token_mlps(body: MlpMixer, shape: MixerShape, options: MixerOptions) -> None:
    num_vectors = shape.hidden_dim // options.token_concat
    for block in body.blocks:
        block.mlp_tokens = TokenMlps(
            num_channels=shape.hidden_dim,
            num_tokens=body.stem.num_patches,
            hidden_dim=options.token_mlp_dim or shape.token_mlp_dim,
            num_mlps=num_vectors if options.token_mlps == "per_channel" else options.token_mlps,
            concat=options.token_concat,
            activation=GELUTanh() if options.gelu == "tanh" else nn.GELU(),
            dropout=options.dropout,
        )
