"""The numbers that make an architecture, in the words of the papers. No torch here."""

from dataclasses import dataclass

from scaling.errors import UserError


@dataclass(frozen=True, kw_only=True)
class MixerShape:
    """A row of Mixer's Table 1."""

    patch_size: int
    num_layers: int
    hidden_dim: int
    """C"""
    token_mlp_dim: int
    """D_S"""
    channel_mlp_dim: int
    """D_C"""


@dataclass(frozen=True, kw_only=True)
class VitShape:
    """A row of ViT's Table 1; the MLP is four times as wide as the tokens in every size."""

    patch_size: int
    num_layers: int
    hidden_dim: int
    """D"""
    num_heads: int


@dataclass(frozen=True, kw_only=True)
class BitShape:
    """A BiT ResNet: one entry a stage in `blocks` and `channels`."""

    blocks: tuple[int, ...]
    channels: tuple[int, ...] = (256, 512, 1024, 2048)
    """Outputs of a stage's blocks at width 1; the stem has a quarter of the first."""
    width_factor: int = 1
    num_groups: int = 32
    """Of group normalisation."""


def check_patch_grid(name: str, image_size: int, patch_size: int) -> None:
    """Refuse an `image_size` of model `name` that is not a positive multiple of `patch_size`, with `UserError`."""
    if image_size < patch_size or image_size % patch_size:
        nearest = max(1, round(image_size / patch_size)) * patch_size
        raise UserError(
            f"image_size = {image_size} of model {name!r} must be a multiple of its patch size {patch_size}; "
            f"take {nearest}"
        )
