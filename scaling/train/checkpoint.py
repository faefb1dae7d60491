"""Checkpoints that a crash at any moment cannot spoil.

    checkpoints/step_00000120/state.safetensors   weights, optimiser state; its metadata holds counters and best-so-far
                              best.safetensors    the kept weights at that time
                              COMPLETE            written last, with the SHA-256 of the others: without it the folder
                                                  does not count
    checkpoints/best/model.safetensors            weights with the best upstream validation so far

A checkpoint is written under a temporary name, flushed to the disk, marked and renamed; the oldest go. None shares a
file with another, so a bad block costs one of them, and what the checksums do not confirm is not read. It holds full
tensors by parameter name, so it loads on any number of processes. There is no random state in it: everything random is
a function of seed and position. Nothing is ever unpickled.
"""

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from scaling.errors import UserError
from scaling.records.files import sync_folder
from scaling.records.run_dir import RunDir
from scaling.records.run_plan import RunPlan
from scaling.train import portable_state
from scaling.train.engine import Engine
from scaling.train.failures import CheckpointError
from scaling.train.process_group import Processes
from scaling.train.recorder import Recorder

logger = logging.getLogger(__name__)

COMPLETE = "COMPLETE"

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


class CheckpointStore:
    """The checkpoints of one run. Every method that writes is called by all ranks together."""

    def __init__(self, run_dir: Path, plan: RunPlan, processes: Processes, recorder: Recorder) -> None:
        self._folder = RunDir(run_dir).checkpoints
        self._best_path = RunDir(run_dir).best_weights
        self._identity = plan.identity
        self._keep = plan.intervals.keep_checkpoints
        self._processes = processes
        self._recorder = recorder

    @property
    def best_path(self) -> Path:
        return self._best_path

    def save(self, engine: Engine, progress: Progress) -> None:
        """Write, mark and publish a checkpoint, then drop the oldest.

        CheckpointError on all ranks when the disk refuses; what was saved before is then as it was.
        """
        tensors = portable_state.capture(engine, self._processes)
        problem = ""
        if self._processes.is_first:
            try:
                self._write(tensors, progress)
            except (OSError, SafetensorError) as error:
                shutil.rmtree(self._partial(progress.step), ignore_errors=True)
                problem = str(error)
        if self._processes.any(bool(problem)):
            raise CheckpointError(f"the checkpoint of step {progress.step} could not be written: {problem}")

    def restore(self, engine: Engine) -> Progress:
        """Load the newest complete checkpoint; `Progress()` when there is none.

        A checkpoint that is marked complete and yet is not what was written is passed over with a warning.
        """
        if self._processes.is_first:
            for leftover in self._folder.glob(".partial_*"):
                shutil.rmtree(leftover)
        for path in self._complete():
            try:
                progress, tensors = self._read(path)
                problem = ""
            except (OSError, SafetensorError, KeyError, ValueError, TypeError, AttributeError) as error:
                problem = f"{type(error).__name__}: {error}"
            # All ranks fall back together, also when only one of them cannot read.
            if self._processes.any(bool(problem)):
                logger.warning("checkpoint %s cannot be read (%s); falling back to the one before", path.name, problem)
                continue
            portable_state.install(engine, tensors)
            if self._processes.is_first:
                self._restore_best(path)
            self._processes.barrier()
            return progress
        return Progress()

    def save_best(self, engine: Engine, step: int, plans: Mapping[str, BaseModel]) -> None:
        """Keep the present weights as the best so far (rank 0 writes); `plans` say what they are of, by name."""
        if not self._processes.is_first:
            return
        temporary = self.best_path.with_suffix(".tmp")
        weights = {
            name: tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
            for name, tensor in engine.model.state_dict().items()
        }
        try:
            self.best_path.parent.mkdir(parents=True, exist_ok=True)
            described = {name: plan.model_dump_json() for name, plan in plans.items()}
            save_file(weights, temporary, metadata={"step": str(step), "identity": self._identity, **described})
            _sync(temporary)
        except (OSError, SafetensorError) as error:
            temporary.unlink(missing_ok=True)
            raise CheckpointError(f"the best weights, of step {step}, could not be written: {error}") from error
        temporary.replace(self.best_path)

    def _write(self, tensors: dict[str, torch.Tensor], progress: Progress) -> None:
        final, partial = self._folder / f"step_{progress.step:08d}", self._partial(progress.step)
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        metadata = {"identity": self._identity, "progress": json.dumps(asdict(progress))}
        save_file(tensors, partial / STATE, metadata=metadata)
        _sync(partial / STATE)
        if self.best_path.exists():
            _copy(self.best_path, partial / BEST)
        digests = {path.name: _digest(path) for path in sorted(partial.iterdir())}
        (partial / COMPLETE).write_text(json.dumps(digests, indent=2) + "\n")
        _sync(partial / COMPLETE)
        sync_folder(partial)
        shutil.rmtree(final, ignore_errors=True)
        partial.rename(final)
        sync_folder(self._folder)
        for path in list(self._complete())[self._keep :]:
            shutil.rmtree(path)

    def _read(self, path: Path) -> tuple[Progress, dict[str, torch.Tensor]]:
        for name, digest in _recorded_digests(path).items():
            if _digest(path / name) != digest:
                raise ValueError(f"{name} is not what was written")
        with safe_open(path / STATE, framework="pt") as file:
            metadata: dict[str, Any] = file.metadata() or {}
        if metadata["identity"] != self._identity:
            raise UserError(
                f"{path} belongs to another run (identity {metadata['identity'][:8]}, this run is "
                f"{self._identity[:8]}); move it away"
            )
        return Progress(**json.loads(metadata["progress"])), load_file(path / STATE)

    def _restore_best(self, path: Path) -> None:
        """Weights kept after this checkpoint belong to work that is lost."""
        if (path / BEST).exists():
            if self.best_path.exists() and _digest(self.best_path) == _recorded_digests(path)[BEST]:
                return
            self.best_path.parent.mkdir(exist_ok=True)
            temporary = self.best_path.with_suffix(".tmp")
            _copy(path / BEST, temporary)
            temporary.replace(self.best_path)

    def _partial(self, step: int) -> Path:
        return self._folder / f".partial_{step:08d}"

    def _complete(self) -> Iterator[Path]:
        """Marked checkpoints, newest first by step number."""
        yield from sorted(
            (path.parent for path in self._folder.glob(f"step_*/{COMPLETE}")),
            key=lambda path: int(path.name.removeprefix("step_")),
            reverse=True,
        )


def load_weights(path: Path, model: torch.nn.Module) -> int:
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


def _recorded_digests(checkpoint: Path) -> dict[str, str]:
    """SHA-256 of the files of a complete checkpoint, by name."""
    digests: dict[str, str] = json.loads((checkpoint / COMPLETE).read_text())
    return digests


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _sync(path: Path) -> None:
    """Flush a file to the disk."""
    with path.open("rb") as stream:
        os.fsync(stream.fileno())
