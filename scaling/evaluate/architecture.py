"""Which weights `scaling.evaluate` scores and what model they are of, checked before PyTorch is imported.

A weights file that training wrote names its model itself; for any other file the user names it; `timm:NAME` is both.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scaling.errors import UserError
from scaling.models.registry import check_name, check_options, default_image_size, is_timm_name
from scaling.records.run_plan import UNPERMUTED, InputPlan, ModelPlan


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """What has to be built before weights can be loaded, and what images it takes."""

    name: str
    num_classes: int
    image_size: int
    options: dict[str, Any]
    has_head: bool
    """Whether the weights hold this classifier; without it the model keeps a fresh one, which no probe looks at."""
    input: InputPlan = UNPERMUTED


def read_architecture(
    target: str, name: str | None, image_size: int | None, options: dict[str, Any], num_classes: int | None = None
) -> Architecture:
    """The model behind weights; UserError where neither the file nor the options tell. `num_classes` are those of the
    weights' own classifier, which is otherwise not loaded."""
    if name is None and is_timm_name(target):
        name = target
    if name is None:
        described = _described_in(target)
        if described is None:
            raise UserError(
                f"{target} does not say what model it is of; add --model NAME (python -m scaling.models lists them)"
            )
        if image_size or options or num_classes:
            raise UserError(
                f"{target} names its model itself; leave out --image-size, --num-classes and --option, or add --model"
            )
        return architecture_of(*described)
    check_name(name)
    check_options(name, options)
    size = image_size or default_image_size(name)
    return Architecture(
        name=name,
        num_classes=num_classes or 1,
        image_size=size,
        options=options,
        has_head=num_classes is not None,
    )


MAX_HEADER_BYTES = 100_000_000
"""As the format says."""


def _described_in(target: str) -> tuple[ModelPlan, InputPlan] | None:
    """The model and its input as training wrote them into a weights file, or None for any other file."""
    path = Path(target)
    if path.suffix != ".safetensors":
        return None
    if not path.is_file():
        raise UserError(f"weights {target!r}: there is no such file; give a run directory or a weights file")
    with path.open("rb") as stream:
        # The format: eight bytes with the length of a JSON header, then the header.
        length = int.from_bytes(stream.read(8), "little")
        if length > min(path.stat().st_size, MAX_HEADER_BYTES):
            raise UserError(f"weights {target!r} are no safetensors file")
        try:
            metadata = json.loads(stream.read(length)).get("__metadata__", {})
            if "model" not in metadata:
                return None
            return (
                ModelPlan.model_validate_json(metadata["model"]),
                InputPlan.model_validate_json(metadata["input"]),
            )
        except (ValueError, AttributeError, KeyError, TypeError, RecursionError) as error:
            raise UserError(f"weights {target!r} are no safetensors file that this version reads: {error}") from error


def architecture_of(model: ModelPlan, input: InputPlan) -> Architecture:
    """That of a planned run."""
    return Architecture(
        name=model.name,
        num_classes=model.num_classes,
        image_size=model.image_size,
        options=model.options,
        has_head=True,
        input=input,
    )
