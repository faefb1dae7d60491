"""Any model of timm as a `VisionModel`: `timm:NAME`, body and initial weights as timm makes them, our linear head.

Options are handed to `timm.create_model` as they are; `pretrained: true` fetches timm's weights. Two are our own:
`pixel_mean` and `pixel_std`, three numbers each, of the colours from 0 to 1 that trained weights expect to be shifted
and scaled by.
"""

import math
from collections.abc import Sequence
from typing import Any, cast

import timm
import torch
from torch import nn

from scaling.errors import UserError
from scaling.models.networks.vision_model import BuildArguments, VisionModel
from scaling.models.timm_names import TIMM_PREFIX, check_timm_name


def build_timm(arguments: BuildArguments) -> VisionModel:
    """`arguments.name` is `timm:NAME`. Raises `UserError` if timm does not know the name or refuses an option."""
    name = arguments.name.removeprefix(TIMM_PREFIX)
    check_timm_name(arguments.name)
    keywords: dict[str, Any] = dict(arguments.options)
    colours = keywords.pop("pixel_mean", None), keywords.pop("pixel_std", None)
    if arguments.drop_path:
        keywords["drop_path_rate"] = arguments.drop_path
    config = timm.get_pretrained_cfg(name)
    if config is not None and config.fixed_input_size:
        keywords["img_size"] = arguments.image_size
    try:
        body = timm.create_model(name, num_classes=0, **keywords)
    except Exception as error:
        # Options reach timm as they are written, and it answers impossible ones with errors of any type.
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise UserError(f"timm cannot build {name!r} with {keywords}: {reason[:300]}") from error
    if colours != (None, None):
        _recolour(body, _three("pixel_mean", colours[0]), _three("pixel_std", colours[1], above=0.0))
    return VisionModel(arguments, family="timm", body=body, num_features=cast(int, body.head_hidden_size))


def _recolour(body: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
    """Have `body` take images in [-1, 1] and see them as it was trained to: (colour from 0 to 1 - mean) / std."""
    means, deviations = torch.tensor(mean).view(3, 1, 1), torch.tensor(std).view(3, 1, 1)
    body.register_buffer("pixel_scale", 0.5 / deviations, persistent=False)
    body.register_buffer("pixel_shift", (0.5 - means) / deviations, persistent=False)
    body.register_forward_pre_hook(_seen)


def _seen(body: Any, inputs: tuple[torch.Tensor]) -> torch.Tensor:
    seen: torch.Tensor = inputs[0] * body.pixel_scale + body.pixel_shift
    return seen


def _three(name: str, values: Any, above: float = -math.inf) -> Sequence[float]:
    is_list = isinstance(values, list | tuple) and len(values) == 3
    if not is_list or not all(isinstance(one, int | float) and above < one < math.inf for one in values):
        raise UserError(
            f"option {name} = {values!r} of a timm model is not three finite numbers"
            f"{f' above {above:g}' if above > -math.inf else ''}; write pixel_mean and pixel_std, for example "
            "pixel_mean: [0.485, 0.456, 0.406], pixel_std: [0.229, 0.224, 0.225]"
        )
    return values
