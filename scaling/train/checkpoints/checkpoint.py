"""One checkpoint: what a folder of that name holds, and whether it is whole.

    step_00000120_attempt2/state.safetensors   weights, optimiser state; counters in its metadata
                           best.safetensors    the kept weights at that time
                           COMPLETE            written last, with the SHA-256 of the others: without it the folder does
                                               not count

None shares a file with another, so a bad block costs one of them, and what the checksums do not confirm is not read. It
holds full tensors by parameter name, so it loads on any number of processes. There is no random state in it: everything
random is a function of seed and position. Nothing is ever unpickled.
"""

import errno
import json
import re
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

from scaling.data.storage.integrity import file_sha256
from scaling.errors import UserError
from scaling.records.files import open_regular

COMPLETE = "COMPLETE"

MAX_MARK_BYTES = 2**16

STATE, BEST = "state.safetensors", "best.safetensors"


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Where a run stands between two steps."""

    step: int = 0
    train_seconds: float = 0.0
    pause_seconds: float = 0.0
    best_step: int = 0
    best_metrics: dict[str, float] | None = None
    """Upstream metrics of the kept weights; None before the first validation."""
    stale_validations: int = 0
    """Validations in a row that were no better than the best."""
    skipped_steps: int = 0
    """Logged steps that were left out because their gradient was not finite."""
    corrupt: list[tuple[int, int]] = field(default_factory=list)
    """Shard and index of the unusable samples met so far, on all processes."""
    training: dict[str, float] = field(default_factory=dict)
    """The last logged training metrics."""
    tally: list[list[float]] = field(default_factory=list)
    """Sums since the last logged row, one list per process."""


class DamagedError(Exception):
    """A checkpoint is not what was written."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint whose files are what was written."""

    path: Path
    digests: dict[str, str]
    """SHA-256 by file name."""
    progress: dict[str, Any]
    tensors: list[tuple[str, list[int], str]]
    """Name, shape and PyTorch's name of the type of each tensor, in the order of the file."""

    @classmethod
    def read(cls, path: Path, identity: str) -> Self:
        """DamagedError when the checksums or the format do not fit; UserError for another run's or version's."""
        try:
            with open_regular(path / COMPLETE) as marker:
                digests = json.loads(marker.read(MAX_MARK_BYTES))
            if not isinstance(digests, dict) or set(digests) - {BEST} != {STATE}:
                raise DamagedError(f"{COMPLETE} does not name its files")
            for name, digest in digests.items():
                if file_sha256(path / name) != digest:
                    raise DamagedError(f"{name} is not what was written")
            with safe_open(path / STATE, framework="pt") as file:
                metadata: dict[str, str] = file.metadata() or {}
                tensors = [
                    (name, list(part.get_shape()), _torch_type(part.get_dtype()))
                    for name, part in ((name, file.get_slice(name)) for name in file.keys())  # noqa: SIM118
                ]
            progress = json.loads(metadata["progress"])
            written_by = metadata["identity"]
        except (SafetensorError, KeyError, ValueError, TypeError, RecursionError) as error:
            raise DamagedError(f"{type(error).__name__}: {error}") from error
        except OSError as error:
            # A missing file, something else in its place and a bad block are damage; a server that does not answer, or
            # too many open files, is not.
            if error.errno not in _DAMAGE:
                raise
            raise DamagedError(f"{error.filename or path}: {error.strerror}") from error
        if written_by != identity:
            raise UserError(
                f"{path} belongs to another run (identity {written_by[:8]}, this run is {identity[:8]}); move it away"
            )
        known = {entry.name for entry in fields(Progress)}
        if not isinstance(progress, dict) or set(progress) != known:
            raise UserError(
                f"{path} was written by another version of the harness; move the run's checkpoints away to start again"
            )
        return cls(path, digests, progress, tensors)

    def describe(self) -> dict[str, Any]:
        """What the other processes receive."""
        return {"name": self.path.name, "digests": self.digests, "progress": self.progress, "tensors": self.tensors}


_DAMAGE = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EIO, errno.ELOOP, errno.EINVAL, errno.ENXIO)

_NAME = re.compile(r"step_(\d{8,18})_attempt(\d{1,9})", re.ASCII)

_TYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64", "I32": "int32"}
_TYPES |= {"I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool"}
"""PyTorch's names for those of the safetensors format."""


def checkpoint_number(name: str) -> tuple[int, int] | None:
    """Attempt and step of a checkpoint's folder name; None for any other name."""
    match = _NAME.fullmatch(name)
    return (int(match[2]), int(match[1])) if match else None


def _torch_type(name: str) -> str:
    if name not in _TYPES:
        raise ValueError(f"tensors of type {name} are not ours")
    return _TYPES[name]


def load_best_weights(path: Path, model: torch.nn.Module) -> int:
    """Load kept weights into a model; returns the step they are from."""
    try:
        weights = load_file(path)
    except (OSError, SafetensorError) as error:
        raise UserError(
            f"{path} cannot be read ({error}); every checkpoint beside it holds a copy of the kept weights, {BEST}"
        ) from error
    model.load_state_dict(weights)
    with safe_open(path, framework="pt") as file:
        return int((file.metadata() or {})["step"])
