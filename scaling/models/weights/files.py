"""Weights into models and out again: our safetensors, the papers' `.npz`, and timm's hub.

Everything is checked by name and shape before the first parameter changes; nothing is resampled. Files are never
unpickled. The hub is asked only when a source says `timm:`.

The bytes of a file of ours follow from its content, so that equal weights of equal runs have an equal SHA-256, by which
records name them: the library writes the metadata in an order that differs from process to process, and it is sorted
here.
"""

import json
import logging
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal
from zipfile import BadZipFile

import numpy as np
import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from scaling.errors import UserError
from scaling.models.networks.vision_model import VisionModel
from scaling.models.timm_names import TIMM_PREFIX, is_timm_name
from scaling.models.weights.npz_layouts import Entry, canonical_name, layout_of

logger = logging.getLogger(__name__)

Head = Literal["load", "keep"]
TIMM_CLASSIFIERS = ("head", "head.fc", "fc", "classifier", "head.head")
"""What timm's families call the layer that makes the logits."""

NPZ_ERRORS = (
    *(ValueError, TypeError, OSError, EOFError, KeyError, AttributeError, RuntimeError, MemoryError),
    *(BadZipFile, zlib.error, struct.error),
)
"""What NumPy and zipfile raise for files that are damaged or made to do harm."""

NPZ_SLACK = 128
"""Bytes of a stored array for each number of the model's largest parameter: one of float64 with 16 times as many, since
position embeddings may be those of a larger image."""

HEAD_PREFIXES = ("head.", "pre_logits.")


def load_weights(model: VisionModel, source: str | Path, *, head: Head = "load") -> None:
    """Load `source` into `model`: a `.safetensors` file of ours, a published `.npz`, or `timm:NAME` from the hub.

    `head="keep"` leaves classifier and pre-logits layer as they are, for transfer. A checkpoint of another
    resolution is loaded into a model of that resolution, which `scaling.models.weights.transfer` then changes. Raises
    `UserError` if the weights are not those of this architecture.
    """
    if is_timm_name(str(source)):
        state = _timm_state(str(source).removeprefix(TIMM_PREFIX))
    elif not Path(source).is_file():
        raise UserError(f"weights {str(source)!r}: there is no such file; give a file or timm:NAME")
    elif Path(source).suffix == ".npz":
        state = _npz_state(model, Path(source), head)
    elif Path(source).suffix == ".safetensors":
        state = _under_our_names(_safetensors_state(Path(source)), model)
    else:
        raise UserError(f"weights {str(source)!r} must end in .safetensors or .npz, or be timm:NAME")
    _load(model, state, str(source), head)


def save_npz(model: VisionModel, path: Path) -> None:
    """Write all parameters of `model` to `path` in the layout of its paper's released checkpoints."""
    arrays: dict[str, Any] = {}
    state = {name: value.detach().cpu().numpy() for name, value in model.state_dict().items()}
    for entry in _layout(model):
        arrays.update(zip(entry.arrays, entry.write(state[entry.parameter]), strict=True))
    with path.open("wb") as file:
        np.savez(file, **arrays)


def _safetensors_state(path: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(path)
    except SafetensorError as error:
        raise UserError(f"weights {str(path)!r} cannot be read as a safetensors file: {error}") from error


def _under_our_names(state: dict[str, torch.Tensor], model: VisionModel) -> dict[str, torch.Tensor]:
    """A file of timm's names, in which the classifier is whatever timm calls it, under ours; any other as it is."""
    if any(name.startswith("body.") for name in state):
        return state
    body = model.body.state_dict()
    renamed = {}
    for name, value in state.items():
        owner, _, leaf = name.rpartition(".")
        if owner in TIMM_CLASSIFIERS and name not in body:
            renamed[f"head.{leaf}"] = value.flatten(1) if leaf == "weight" else value
        else:
            renamed[f"body.{name}"] = value
    return renamed


def _npz_state(model: VisionModel, path: Path, head: Head) -> dict[str, torch.Tensor]:
    entries = [entry for entry in _layout(model) if head == "load" or not entry.parameter.startswith(HEAD_PREFIXES)]
    wanted = {name for entry in entries for name in entry.arrays}
    largest = max(parameter.numel() for parameter in model.parameters())
    stored = _npz_arrays(path, wanted, max_bytes=NPZ_SLACK * largest)
    missing = sorted(wanted - stored.keys())
    if missing:
        raise UserError(
            f"weights {str(path)!r} lack {missing[0]!r} ({len(missing)} arrays in all) of model "
            f"{model.arguments.name!r}; {_missing_hint(missing[0])}"
        )
    unused = sorted(stored.keys() - wanted)
    if head == "load" and "pre_logits/kernel" in unused:
        raise UserError(
            f"weights {str(path)!r} have a tanh layer before the classifier and model {model.arguments.name!r} "
            "has none; build it with option pre_logits: tanh, or keep its own head"
        )
    if unused:
        logger.info("%s: %d arrays not needed by %s: %s", path, len(unused), model.arguments.name, unused)
    return {entry.parameter: _read(entry, stored, path) for entry in entries}


def _npz_arrays(path: Path, wanted: set[str], max_bytes: int) -> dict[str, np.ndarray | None]:
    """The wanted arrays, and None for each other name: a small file can hold arrays that fill any memory."""
    arrays: dict[str, np.ndarray | None] = {}
    try:
        with np.load(path, allow_pickle=False) as file:
            for stored in file.files:
                name = canonical_name(stored)
                if name in wanted and (size := file.zip.getinfo(f"{stored}.npy").file_size) > max_bytes:
                    raise ValueError(f"{name!r} has {size:,} bytes, more than {max_bytes:,}")
                arrays[name] = file[stored] if name in wanted else None
    except NPZ_ERRORS as error:
        raise UserError(f"weights {str(path)!r} cannot be read as an .npz file of plain arrays: {error}") from error
    return arrays


def _read(entry: Entry, arrays: Mapping[str, np.ndarray | None], path: Path) -> torch.Tensor:
    try:
        value = entry.read(tuple(array for name in entry.arrays if (array := arrays[name]) is not None))
        return torch.from_numpy(np.ascontiguousarray(value, dtype=np.float32))
    except (ValueError, IndexError, TypeError, AttributeError) as error:
        raise UserError(f"weights {str(path)!r}: array {entry.arrays[0]!r} has another layout: {error}") from error


def _missing_hint(name: str) -> str:
    if name.startswith("pre_logits"):
        return "for fine-tuned weights build the model with option pre_logits: none"
    return "check that the file belongs to this model"


def _timm_state(name: str) -> dict[str, torch.Tensor]:
    """Weights of timm's hub, of a model with a linear or 1x1 classifier, under our names."""
    try:
        network: Any = timm.create_model(name, pretrained=True)
    except (RuntimeError, OSError) as error:
        raise UserError(f"weights timm:{name} cannot be fetched: {error}") from error
    classifier = network.get_classifier()
    classifier_names = {id(parameter) for parameter in classifier.parameters()}
    names = {name for name, parameter in network.named_parameters() if id(parameter) in classifier_names}
    state = {f"body.{name}": value for name, value in network.state_dict().items() if name not in names}
    return state | {
        "head.weight": classifier.weight.detach().flatten(1),
        "head.bias": classifier.bias.detach(),
    }


def _load(model: VisionModel, state: Mapping[str, torch.Tensor], source: str, head: Head) -> None:
    """Check `state` against `model` by name and shape, then copy."""
    own = model.state_dict()
    if head == "keep":
        state = {name: value for name, value in state.items() if not name.startswith(HEAD_PREFIXES)}
    wanted = {name for name in own if head == "load" or not name.startswith(HEAD_PREFIXES)}
    strange = sorted(wanted ^ state.keys())
    if strange:
        side = "lack" if strange[0] in wanted else "have an extra"
        raise UserError(
            f"weights {source!r} {side} {strange[0]!r} ({len(strange)} names differ) for model "
            f"{model.arguments.name!r} with options {dict(model.arguments.options)}; build the model they belong to"
        )
    for name, value in state.items():
        if value.shape != own[name].shape:
            raise UserError(
                f"weights {source!r}: {name!r} has shape {tuple(value.shape)}, model {model.arguments.name!r} wants "
                f"{tuple(own[name].shape)}; build the model with the classes and the image size of the weights"
            )
    model.load_state_dict(own | dict(state))


def _layout(model: VisionModel) -> list[Entry]:
    layout = layout_of(model)
    if layout is None:
        raise UserError(
            f"model {model.arguments.name!r}: family {model.family!r} with options {dict(model.arguments.options)} "
            "has no published .npz layout; use safetensors"
        )
    return layout


LENGTH_BYTES = 8
"""A file begins with the length of its JSON header, then the header, filled up with spaces."""


def save_weights(weights: Mapping[str, torch.Tensor], path: Path, metadata: Mapping[str, str]) -> None:
    """Write tensors, by name, and texts about them."""
    save_file(dict(weights), path, metadata=dict(metadata))
    with path.open("r+b") as file:
        length = int.from_bytes(file.read(LENGTH_BYTES), "little")
        header = json.loads(file.read(length))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        assert len(text) <= length, (len(text), length)
        file.seek(LENGTH_BYTES)
        file.write(text.ljust(length))
