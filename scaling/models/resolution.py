"""Which models can be taken to another resolution, and with which options; no torch, so that planning can ask.

Mixer's token mixing grows with the number of blocks, K^2 for K times the side (appendix C of its paper), so only whole
factors exist. ViT needs whole patches. BiT takes any size. `scaling.models.weights.transfer` changes the weights.
"""

from collections.abc import Mapping
from typing import Any

from scaling.errors import UserError
from scaling.models.options import MixerConvOptions
from scaling.models.registry import find_model
from scaling.models.shapes import check_patch_grid
from scaling.models.timm_names import is_timm_name


def options_for_transfer(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a model under a new linear head: ViT's tanh layer goes (its appendix B.1.1)."""
    is_vit = not is_timm_name(name) and find_model(name)[0].name == "vit"
    return {**options, "pre_logits": "none"} if is_vit else dict(options)


def options_at(name: str, options: Mapping[str, Any], old_size: int, new_size: int) -> dict[str, Any]:
    """Options of a model of `old_size` pixels a side when it is taken to `new_size`; UserError where that cannot be.

    Families without a rule of their own keep their options; whether their weights fit shows when they are loaded.
    """
    if new_size == old_size or is_timm_name(name):
        return dict(options)
    family, spec = find_model(name)
    if family.name in ("mixer", "mixer-conv"):
        factor = _mixer_factor(name, options, old_size, new_size)
        read = family.options.read(name, options)
        assert isinstance(read, MixerConvOptions)
        return {**options, "token_mlp_dim": factor**2 * (read.token_mlp_dim or spec.shape.token_mlp_dim)}
    if family.name == "vit":
        check_patch_grid(name, new_size, spec.shape.patch_size)
    return dict(options)


def _mixer_factor(name: str, options: Mapping[str, Any], old_size: int, new_size: int) -> int:
    """K, by which the side grows."""
    factor, remainder = divmod(new_size, old_size)
    if remainder or factor < 1:
        raise UserError(
            f"image_size = {new_size} for model {name!r}: Mixer changes resolution only by a whole "
            f"factor; take a multiple of {old_size}"
        )
    if options.get("token_concat", 1) != 1:
        raise UserError(
            f"option token_concat = {options['token_concat']} of model {name!r}: the paper gives "
            "no change of resolution for concatenated channels; train at the resolution wanted"
        )
    return factor
