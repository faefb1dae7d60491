"""The first layers of a stored model as arrays: token-mixing units as maps over the patch grid, and stem filters.

Reads the weights that training keeps (safetensors) and the papers' released `.npz` files, without PyTorch and
without unpickling. Mixer in both its forms has token-mixing maps; every model that starts with a convolution has
stem filters.
"""

import json
import math
import re
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from scaling.errors import UserError
from scaling.records.run_dir import RunDir

Array = NDArray[np.float64]

_MAX_BYTES = 2**30
"""Of one array; the largest stem of a paper has 3 million numbers."""

_NPZ_ERRORS = (
    *(ValueError, TypeError, OSError, EOFError, KeyError, AttributeError, RuntimeError, MemoryError),
    *(BadZipFile, zlib.error, struct.error),
)
"""What NumPy and zipfile raise for files that are damaged or made to do harm."""

_STEMS = ("body.stem.proj.weight", "body.patch_embed.proj.weight", "body.stem.conv.weight")
_PUBLISHED_STEMS = ("stem/kernel", "embedding/kernel", "resnet/root_block/standardized_conv2d/kernel")
_UNITS = re.compile(r"body\.blocks\.(\d+)\.mlp_tokens\.fc1\.weight")
_PUBLISHED_UNITS = re.compile(r"MixerBlock_(\d+)/token_mixing/Dense_0/kernel")


@dataclass(frozen=True, slots=True)
class FirstLayers:
    """What can be looked at in a model's first layers."""

    title: str
    """The model's name where the file says it, else the file's; with the permutation it was trained under."""
    token_units: list[Array]
    """By layer, the rows of W1 of the token-mixing MLP: (D_S, side, side). Empty for models without token mixing."""
    stem: Array
    """(C, 3, P, P) in the order of the colours red, green, blue."""


def read_first_layers(source: Path, num_layers: int) -> FirstLayers:
    """`source` is a run folder, a `.safetensors` file that training wrote, or a published `.npz`."""
    path = RunDir(source).best_weights if source.is_dir() else source
    if not path.is_file():
        hint = "train the run to its first validation" if source.is_dir() else "give a run folder or a weights file"
        raise UserError(f"{source}: there are no weights ({path} is missing); {hint}")
    if path.suffix == ".npz":
        arrays, title = _npz_arrays(path), path.stem
    elif path.suffix == ".safetensors":
        arrays, title = _safetensors_arrays(path)
    else:
        raise UserError(f"{path}: weights end in .safetensors or .npz; give one of these, or a run folder")
    stems = [name for name in (*_STEMS, *_PUBLISHED_STEMS) if name in arrays]
    if not stems:
        raise UserError(f"{path} holds no stem of a Mixer, ViT or BiT ({len(arrays)} first-layer arrays); give theirs")
    stem = arrays[stems[0]]
    if stems[0] in _PUBLISHED_STEMS:
        stem = stem.transpose(3, 2, 0, 1)
    units = {int(match[1]): _as_maps(path, name, arrays[name]) for name in arrays if (match := _UNITS.fullmatch(name))}
    units |= {
        int(match[1]): _as_maps(path, name, arrays[name].T)
        for name in arrays
        if (match := _PUBLISHED_UNITS.fullmatch(name))
    }
    return FirstLayers(title, [units[layer] for layer in sorted(units)[:num_layers]], stem)


def _as_maps(path: Path, name: str, weight: Array) -> Array:
    """(D_S, S), a convolution's (D_S, 1, side, side), or untied MLPs' (num, D_S, S) as (units, side, side)."""
    values = weight.reshape(weight.shape[0], -1) if weight.ndim == 4 else weight.reshape(-1, weight.shape[-1])
    side = math.isqrt(values.shape[1])
    if side * side != values.shape[1]:
        raise UserError(
            f"{path}: units of {name} have {values.shape[1]} weights, which are no square grid of patches; models "
            "with token_concat above 1 have no maps"
        )
    return values.reshape(-1, side, side)


def _is_wanted(name: str) -> bool:
    exact = name in _STEMS or name in _PUBLISHED_STEMS
    return exact or bool(_UNITS.fullmatch(name) or _PUBLISHED_UNITS.fullmatch(name))


def _safetensors_arrays(path: Path) -> tuple[dict[str, Array], str]:
    try:
        with safe_open(path, framework="numpy") as file:
            arrays = {name: file.get_tensor(name).astype(np.float64) for name in file.keys() if _is_wanted(name)}  # noqa: SIM118
            return arrays, _title(file.metadata() or {}, path)
    except (SafetensorError, TypeError) as error:
        raise UserError(f"{path} cannot be read as a safetensors file: {error}") from error


def _title(metadata: Mapping[str, str], path: Path) -> str:
    """The name that training wrote into the file."""
    if "model" not in metadata:
        return path.stem
    try:
        permutation = json.loads(metadata.get("input", "{}")).get("permute", "none")
        name = str(json.loads(metadata["model"])["name"])
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise UserError(f"{path}: what it says about its model cannot be read ({error}); give another file") from error
    return name if permutation == "none" else f"{name}, trained with pixels permuted ({permutation})"


def _npz_arrays(path: Path) -> dict[str, Array]:
    """Released files may put `opt/target/` or `params/` in front of every name."""
    try:
        with np.load(path, allow_pickle=False) as file:
            names = {re.sub(r"^(opt/target|params)/", "", name): name for name in file.files}
            names = {re.sub(r"/standardized_conv2d_\d+/", "/standardized_conv2d/", k): v for k, v in names.items()}
            wanted = {name: stored for name, stored in names.items() if _is_wanted(name)}
            for name, stored in wanted.items():
                if (size := file.zip.getinfo(f"{stored}.npy").file_size) > _MAX_BYTES:
                    raise ValueError(f"{name!r} has {size:,} bytes, more than {_MAX_BYTES:,}")
            return {name: file[stored].astype(np.float64) for name, stored in wanted.items()}
    except _NPZ_ERRORS as error:
        raise UserError(f"{path} cannot be read as an .npz file of plain arrays: {error}") from error
