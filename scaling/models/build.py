"""From a name to a network: the one way in which the harness makes a model."""

import importlib
from collections.abc import Mapping
from typing import Any, Protocol

from scaling.errors import UserError
from scaling.models.networks.timm_model import build_timm
from scaling.models.networks.vision_model import BuildArguments, VisionModel
from scaling.models.registry import find_model
from scaling.models.timm_names import is_timm_name


class Builder(Protocol):
    """What `Family.builder` points at."""

    def __call__(self, shape: Any, arguments: BuildArguments, options: Any) -> VisionModel:
        """A model of `ModelSpec.shape`; `options` are `arguments.options`, read by `Family.options`."""


def build_model(
    name: str,
    *,
    num_classes: int,
    image_size: int,
    head_bias: float = 0.0,
    drop_path: float = 0.0,
    options: Mapping[str, object] = {},
) -> VisionModel:
    """A freshly initialised model on torch's default device, drawn from its default generator.

    `name` is one of `scaling.models.registry.list_models()` or `timm:NAME`; `image_size` is the side of the
    square input in pixels; `head_bias` is the classifier's initial bias (-10 with the sigmoid loss, 0 with
    softmax); `drop_path` in [0, 1) is the stochastic-depth rate of the last block. Raises `UserError`.
    """
    if num_classes < 1:
        raise UserError(f"num_classes = {num_classes} of model {name!r} must be at least 1; take it from the data")
    if image_size < 1:
        raise UserError(f"image_size = {image_size} of model {name!r} must be at least 1 pixel; 224 is usual")
    if not 0.0 <= drop_path < 1.0:
        raise UserError(f"drop_path = {drop_path} of model {name!r} must lie in [0, 1); 0 switches it off")
    arguments = BuildArguments(
        name=name,
        num_classes=num_classes,
        image_size=image_size,
        head_bias=head_bias,
        drop_path=drop_path,
        options=dict(options),
    )
    if is_timm_name(name):
        return build_timm(arguments)
    family, spec = find_model(name)
    module, _, function = family.builder.partition(":")
    builder: Builder = getattr(importlib.import_module(module), function)
    return builder(spec.shape, arguments, family.options.read(name, options))
