"""Checkpoints that a crash at any moment cannot spoil.

    checkpoints/step_00000120_attempt2/state.safetensors   weights, optimiser state; counters in its metadata
                                       best.safetensors    the kept weights at that time
                                       COMPLETE            written last, with the SHA-256 of the others: without it the
                                                           folder does not count
    checkpoints/step_00000110_attempt2.damaged/            set aside: not what was written
    checkpoints/best/model.safetensors                     weights with the best upstream validation so far

A checkpoint is written under a temporary name, flushed to the disk, marked and renamed; the oldest go. None shares a
file with another, so a bad block costs one of them, and what the checksums do not confirm is not read. It holds full
tensors by parameter name, so it loads on any number of processes. There is no random state in it: everything random is
a function of seed and position. Nothing is ever unpickled.
"""

import errno
import json
import logging
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Self

import torch
from pydantic import BaseModel
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from scaling.data.storage.integrity import file_sha256
from scaling.errors import UserError
from scaling.models.weights.files import save_weights
from scaling.records.files import TEMPORARY, open_regular, sync_folder
from scaling.records.run_dir import RunDir
from scaling.records.run_plan import RunPlan
from scaling.train.checkpoints import portable_state
from scaling.train.processes.agreement import send, tell
from scaling.train.processes.failures import CheckpointError
from scaling.train.processes.process_group import Processes
from scaling.train.reporting.recorder import Recorder
from scaling.train.step.engine import Engine

logger = logging.getLogger(__name__)

COMPLETE = "COMPLETE"

MAX_MARK_BYTES = 2**16

STATE, BEST = "state.safetensors", "best.safetensors"

PARTIAL = ".partial"


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


class CheckpointStore:
    """The checkpoints of one run. Every method is called by all ranks together; only the first one reads or writes."""

    def __init__(self, run_dir: Path, plan: RunPlan, processes: Processes, recorder: Recorder) -> None:
        self._run = RunDir(run_dir)
        self._identity = plan.identity
        self._keep = plan.intervals.keep_checkpoints
        self._processes = processes
        self._recorder = recorder
        self.restored_attempt = 0
        """Whose checkpoint `restore` loaded; 0 for none."""

    @property
    def best_path(self) -> Path:
        return self._run.best_weights

    def save(self, engine: Engine, progress: Progress) -> None:
        """Write, mark and publish a checkpoint, then drop the oldest.

        CheckpointError on all ranks when the disk refuses; what was saved before is then as it was.
        """
        tensors = portable_state.capture(engine, self._processes)
        problem = ""
        if self._processes.is_first:
            self._recorder.guard()
            try:
                self._write(tensors, progress)
            except (OSError, SafetensorError) as error:
                shutil.rmtree(self._partial(progress.step), ignore_errors=True)
                problem = str(error) or type(error).__name__
        if self._processes.any(bool(problem)):
            raise CheckpointError(f"the checkpoint of step {progress.step} could not be written: {problem}")

    def restore(self, engine: Engine) -> Progress:
        """Load the newest complete checkpoint; `Progress()` when there is none.

        The first process chooses it, holds it against its checksums and hands its content to the others. One that is
        marked complete and yet is not what was written is set aside as `NAME.damaged`, with a warning, and the one
        before it is taken. UserError, on all processes, for a checkpoint of another run or version.
        """
        chosen: Checkpoint | None = None
        refusal = ""
        if self._processes.is_first:
            for leftover in self._run.checkpoints.glob(f".*{PARTIAL}"):
                shutil.rmtree(leftover, ignore_errors=True)
            try:
                chosen = self._newest_sound()
            except UserError as error:
                refusal = str(error)
        described = chosen.describe() if chosen is not None else None
        found, refusal = tell([described, refusal], self._processes)
        if refusal:
            raise UserError(refusal)
        if found is None:
            return Progress()
        tensors = self._hand_out(chosen, found["tensors"])
        portable_state.install(engine, {name: shape for name, shape, _ in found["tensors"]}, tensors)
        if chosen is not None:
            self._restore_best(chosen)
        self._processes.barrier()
        number = checkpoint_number(found["name"])
        self.restored_attempt = number[0] if number else 0
        logger.info("continuing from %s", found["name"])
        return Progress(**found["progress"])

    def save_best(self, engine: Engine, step: int, plans: Mapping[str, BaseModel]) -> None:
        """Keep the present weights as the best so far (rank 0 writes); `plans` say what they are of, by name."""
        if not self._processes.is_first:
            return
        self._recorder.guard()
        temporary = self.best_path.with_suffix(TEMPORARY)
        weights = {
            name: tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
            for name, tensor in engine.model.state_dict().items()
        }
        try:
            self.best_path.parent.mkdir(parents=True, exist_ok=True)
            described = {name: plan.model_dump_json() for name, plan in plans.items()}
            save_weights(weights, temporary, {"step": str(step), "identity": self._identity, **described})
            _sync(temporary)
            self._recorder.guard()
            temporary.replace(self.best_path)
        except (OSError, SafetensorError) as error:
            temporary.unlink(missing_ok=True)
            raise CheckpointError(f"the best weights, of step {step}, could not be written: {error}") from error

    def _write(self, tensors: dict[str, torch.Tensor], progress: Progress) -> None:
        final, partial = self._final(progress.step), self._partial(progress.step)
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        metadata = {"identity": self._identity, "progress": json.dumps(asdict(progress))}
        save_file(tensors, partial / STATE, metadata=metadata)
        _sync(partial / STATE)
        if progress.best_metrics is not None:
            _copy(self.best_path, partial / BEST)
        digests = {path.name: file_sha256(path) for path in sorted(partial.iterdir())}
        (partial / COMPLETE).write_text(json.dumps(digests, indent=2) + "\n")
        _sync(partial / COMPLETE)
        sync_folder(partial)
        self._recorder.guard()
        shutil.rmtree(final, ignore_errors=True)
        partial.rename(final)
        sync_folder(self._run.checkpoints)
        if not (final / COMPLETE).is_file():
            raise OSError(f"{final} was removed while it was written")
        # The one just written is the only one whose content is known for certain, so it is never among those that go.
        for path in [path for path in self._complete() if path != final][self._keep - 1 :]:
            shutil.rmtree(path, ignore_errors=True)

    def _newest_sound(self) -> "Checkpoint | None":
        """The newest checkpoint that is what was written; those found damaged on the way are set aside."""
        last_damage = ""
        for path in self._complete():
            try:
                return Checkpoint.read(path, self._identity)
            except DamagedError as damage:
                aside = _free_name(path.with_name(f"{path.name}.damaged"))
                self._recorder.guard()
                path.rename(aside)
                last_damage = f"checkpoint {path.name} cannot be read ({damage}); it was set aside as {aside.name}"
                logger.warning("%s; falling back to the one before", last_damage)
        if last_damage:
            logger.warning("no sound checkpoint is left; the run begins again at step 0")
        return None

    def _hand_out(
        self, chosen: "Checkpoint | None", described: list[tuple[str, list[int], str]]
    ) -> Iterator[tuple[str, torch.Tensor]]:
        """The tensors of the chosen checkpoint, one at a time, on every process."""
        with ExitStack() as stack:
            file = stack.enter_context(safe_open(chosen.path / STATE, framework="pt")) if chosen is not None else None
            for name, shape, dtype in described:
                own = file.get_tensor(name) if file is not None else None
                yield name, send(own, shape, getattr(torch, dtype), self._processes)

    def _restore_best(self, checkpoint: "Checkpoint") -> None:
        """Weights kept after this checkpoint belong to work that is lost."""
        digest = checkpoint.digests.get(BEST)
        if digest is None:
            self.best_path.unlink(missing_ok=True)
            return
        if self.best_path.is_file() and file_sha256(self.best_path) == digest:
            return
        self.best_path.parent.mkdir(exist_ok=True)
        temporary = self.best_path.with_suffix(TEMPORARY)
        _copy(checkpoint.path / BEST, temporary)
        temporary.replace(self.best_path)

    def _final(self, step: int) -> Path:
        return self._run.checkpoint(step, self._recorder.attempt.attempt)

    def _partial(self, step: int) -> Path:
        final = self._final(step)
        return final.with_name(f".{final.name}{PARTIAL}")

    def _complete(self) -> list[Path]:
        """Marked checkpoints, newest first: by attempt, then step. Other folders, such as copies that somebody made
        under other names, are none of them."""
        names = {
            path.parent: checkpoint_number(path.parent.name) for path in self._run.checkpoints.glob(f"*/{COMPLETE}")
        }
        numbered = [(number, path) for path, number in names.items() if number is not None]
        return [path for _, path in sorted(numbered, reverse=True)]


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


def _free_name(path: Path) -> Path:
    """`path`, or the first of `path2`, `path3`, … that does not exist."""
    number, free = 1, path
    while free.exists():
        number += 1
        free = path.with_name(f"{path.name}{number}")
    return free


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


def _copy(source: Path, target: Path) -> None:
    """A copy on the disk."""
    shutil.copyfile(source, target)
    _sync(target)


def _sync(path: Path) -> None:
    """Flush a file to the disk."""
    with path.open("rb") as stream:
        os.fsync(stream.fileno())
