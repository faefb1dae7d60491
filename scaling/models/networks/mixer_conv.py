"""Mixer written as a convolutional network (section 1 of its paper), weight for weight the same function.

Channel mixing is a 1x1 convolution. Token mixing is a convolution whose kernel covers the whole patch grid and is
the same for all channels, followed by a 1x1 convolution that gives every position its value back. Parameters have
the same names as in the `mixer` family and the same values in the same order, only in other shapes; `to_conv` and
`to_linear` change between the two.
"""

from collections.abc import Mapping
from typing import Any

import torch
from timm.layers import GELUTanh, LayerNorm2d
from timm.models import checkpoint_seq
from timm.models.mlp_mixer import MlpMixer
from torch import nn

from scaling.models.networks.mixer import build_body
from scaling.models.networks.vision_model import BuildArguments, VisionModel
from scaling.models.options import MixerConvOptions
from scaling.models.shapes import MixerShape


class ConvMlp(nn.Module):
    """Two convolutions around a GELU; the first covers `field` positions at once, the second is 1x1."""

    def __init__(
        self, inputs: int, field: tuple[int, int], hidden: int, outputs: int, options: MixerConvOptions
    ) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(inputs, hidden, field)
        self.act = GELUTanh() if options.gelu == "tanh" else nn.GELU()
        self.drop1 = nn.Dropout(options.dropout)
        self.fc2 = nn.Conv2d(hidden, outputs, 1)
        self.drop2 = nn.Dropout(options.dropout)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return self.drop2(self.fc2(self.drop1(self.act(self.fc1(maps)))))


class ConvMixerBlock(nn.Module):
    """One layer on a `side` x `side` grid of tokens: (B, C, side, side) to the same."""

    def __init__(self, shape: MixerShape, side: int, drop_path: Any, options: MixerConvOptions) -> None:
        super().__init__()
        width = shape.hidden_dim
        token_mlp_dim = options.token_mlp_dim or shape.token_mlp_dim
        self.norm1 = LayerNorm2d(width)
        self.mlp_tokens = ConvMlp(1, (side, side), token_mlp_dim, side * side, options)
        self.drop_path = drop_path
        self.norm2 = LayerNorm2d(width)
        self.mlp_channels = ConvMlp(width, (1, 1), shape.channel_mlp_dim, width, options)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        single_maps = self.norm1(maps).flatten(0, 1).unsqueeze(1)
        maps = maps + self.drop_path(self.mlp_tokens(single_maps).reshape(maps.shape))
        return maps + self.drop_path(self.mlp_channels(self.norm2(maps)))


class ConvMixer(nn.Module):
    """The body: images (B, 3, H, W) to the mean over positions (B, C)."""

    def __init__(self, linear: MlpMixer, shape: MixerShape, options: MixerConvOptions) -> None:
        """The twin of `linear`, with its weights and its stochastic depth."""
        super().__init__()
        side = linear.stem.grid_size[0]
        self.stem = nn.Sequential()
        self.stem.add_module("proj", nn.Conv2d(3, shape.hidden_dim, shape.patch_size, stride=shape.patch_size))
        self.blocks = nn.Sequential(*(ConvMixerBlock(shape, side, block.drop_path, options) for block in linear.blocks))
        self.norm = LayerNorm2d(shape.hidden_dim)
        self.load_state_dict(to_conv(linear.state_dict(), side))
        self.grad_checkpointing = False

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Compute the blocks again in the backward pass instead of keeping their activations, as timm's models do."""
        self.grad_checkpointing = enable

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = self.stem(images)
        maps = checkpoint_seq(self.blocks, maps) if self.grad_checkpointing else self.blocks(maps)
        return self.norm(maps).mean((2, 3))


def build(shape: MixerShape, arguments: BuildArguments, options: MixerConvOptions) -> VisionModel:
    """The twin of the Mixer that the same arguments and generator state would have built."""
    body = ConvMixer(build_body(shape, arguments, options), shape, options)
    return VisionModel(arguments, family="mixer-conv", body=body, num_features=shape.hidden_dim)


def to_conv(linear_state: Mapping[str, torch.Tensor], side: int) -> dict[str, torch.Tensor]:
    """State of a `mixer` model, or of its body, on a `side` x `side` grid of tokens as its twin's state."""
    conv_state = {}
    for name, value in linear_state.items():
        if name.endswith("mlp_tokens.fc1.weight"):
            value = value.reshape(-1, 1, side, side)
        elif _is_mlp_kernel(name):
            value = value.reshape(*value.shape, 1, 1)
        conv_state[name] = value
    return conv_state


def to_linear(conv_state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """State of a `mixer-conv` model, or of its body, as its twin's state."""
    return {name: value.flatten(1) if _is_mlp_kernel(name) else value for name, value in conv_state.items()}


def _is_mlp_kernel(name: str) -> bool:
    return ".mlp_" in name and name.endswith(".weight")
