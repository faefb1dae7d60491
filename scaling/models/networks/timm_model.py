"""Any model of timm as a `VisionModel`: `timm:NAME`, body and initial weights as timm makes them, our linear head.

Options are handed to `timm.create_model` as they are; `pretrained: true` fetches timm's weights.
"""

from typing import Any, cast

import timm

from scaling.errors import UserError
from scaling.models.networks.vision_model import BuildArguments, VisionModel
from scaling.models.timm_names import TIMM_PREFIX, check_timm_name


def build_timm(arguments: BuildArguments) -> VisionModel:
    """`arguments.name` is `timm:NAME`. Raises `UserError` if timm does not know the name or refuses an option."""
    name = arguments.name.removeprefix(TIMM_PREFIX)
    check_timm_name(arguments.name)
    keywords: dict[str, Any] = dict(arguments.options)
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
    return VisionModel(arguments, family="timm", body=body, num_features=cast(int, body.head_hidden_size))
