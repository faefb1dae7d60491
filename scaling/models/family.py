"""What a model family consists of: the record that users write to add their own. No torch here."""

from dataclasses import dataclass
from typing import Any

from scaling.models.options import FamilyOptions


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """One architecture at its native resolution."""

    name: str
    """The paper's name in lower case, `mixer-b/32`."""
    image_size: int
    """Side of the square input that the architecture is meant for, pixels."""
    shape: Any
    """A frozen dataclass with what the family's builder needs to know, as in `scaling.models.shapes`, or None."""
    source: str
    """Where shape and published numbers stand."""
    published_params_millions: float | None = None
    """Parameters as printed in the source, millions; None where the source prints none."""


@dataclass(frozen=True, kw_only=True)
class Family:
    """Models that one function builds."""

    name: str
    """`mixer`, `vit`, `bit`, …: the key by which analysis groups curves."""
    builder: str
    """`package.module:function`, imported only when a model is built; see `scaling.models.build.Builder`."""
    models: tuple[ModelSpec, ...]
    options: type[FamilyOptions] = FamilyOptions
    """The choices that `build_model(options=…)` accepts."""
