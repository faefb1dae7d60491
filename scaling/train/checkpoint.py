"""Checkpoints that a crash at any moment cannot spoil.

    checkpoints/step_00000120/state.pt      weights, optimiser, counters, best-so-far (rank 0)
                              rng_0.pt …    random state of every rank
                              zero/         DeepSpeed's shards, in ZeRO stages above 0
                              best.safetensors   the kept weights at that time
                              COMPLETE      written last: without it the folder does not count
    checkpoints/best/model.safetensors      weights with the best upstream validation so far

A checkpoint is written under a temporary name, flushed to the disk, marked and renamed. In ZeRO stage 0 it holds
full tensors and loads on any number of processes; ZeRO shards load on the number that wrote them only.
"""

import logging
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from scaling.errors import UserError
from scaling.records.files import sync_folder
from scaling.train.engine import Engine
from scaling.train.process_group import Processes

logger = logging.getLogger(__name__)

COMPLETE = "COMPLETE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Where a run stands between two steps."""

    step: int = 0
    train_seconds: float = 0.0
    pause_seconds: float = 0.0
    best_step: int = 0
    best_metrics: dict[str, float] | None = None
    """Upstream metrics of the kept weights; None before the first validation."""
    training: dict[str, float] = field(default_factory=dict)
    """The last logged training metrics."""


class CheckpointStore:
    """The checkpoints of one run. Every method that writes is called by all ranks together."""

    def __init__(self, run_dir: Path, identity: str, keep: int, processes: Processes) -> None:
        self._folder = run_dir / "checkpoints"
        self._identity = identity
        self._keep = keep
        self._processes = processes

    @property
    def best_path(self) -> Path:
        return self._folder / "best" / "model.safetensors"

    def save(self, engine: Engine, progress: Progress) -> Path:
        """Write, mark and publish a checkpoint, then drop the oldest."""
        final = self._folder / f"step_{progress.step:08d}"
        partial = self._folder / f".partial_{progress.step:08d}"
        if self._processes.is_first:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
        self._processes.barrier()
        torch.save(_random_state(), partial / f"rng_{self._processes.rank}.pt")
        zero = engine.plan.engine.zero_stage > 0
        if zero:
            # `save_latest` would name the checkpoint before the other ranks' shards are complete.
            engine.deepspeed_engine.save_checkpoint(str(partial / "zero"), tag="state", save_latest=False)
        if self._processes.is_first:
            state = {
                "identity": self._identity,
                "progress": asdict(progress),
                "world": self._processes.world,
                "model": None if zero else engine.model.state_dict(),
                "optimizer": None if zero else engine.deepspeed_engine.optimizer.state_dict(),
            }
            torch.save(state, partial / "state.pt")
            if self.best_path.exists():
                os.link(self.best_path, partial / "best.safetensors")
        self._processes.barrier()
        if self._processes.is_first:
            for path in partial.rglob("*"):
                _sync(path)
            (partial / COMPLETE).write_text(f"{progress.step}\n")
            _sync(partial / COMPLETE)
            sync_folder(partial)
            shutil.rmtree(final, ignore_errors=True)
            partial.rename(final)
            sync_folder(self._folder)
            self._prune()
        self._processes.barrier()
        return final

    def restore(self, engine: Engine) -> Progress:
        """Load the newest complete checkpoint; `Progress()` when there is none.

        A checkpoint that is marked complete and yet cannot be read is passed over with a warning.
        """
        for path in self._complete():
            try:
                return self._load(path, engine)
            except UserError:
                raise
            except Exception as error:
                logger.warning("checkpoint %s cannot be read (%s); falling back to the one before", path.name, error)
        return Progress()

    def save_best(self, engine: Engine, step: int) -> None:
        """Keep the present weights as the best so far (rank 0 writes)."""
        if not self._processes.is_first:
            return
        self.best_path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.best_path.with_suffix(".tmp")
        weights = {name: tensor.contiguous() for name, tensor in engine.model.state_dict().items()}
        save_file(weights, temporary, metadata={"step": str(step), "identity": self._identity})
        _sync(temporary)
        temporary.replace(self.best_path)

    def _load(self, path: Path, engine: Engine) -> Progress:
        state = torch.load(path / "state.pt", map_location=engine.device, weights_only=True)
        if state["identity"] != self._identity:
            raise UserError(
                f"{path} belongs to another run (identity {state['identity'][:8]}, this run is {self._identity[:8]}); "
                "move it away"
            )
        if state["model"] is not None:
            engine.model.load_state_dict(state["model"])
            engine.deepspeed_engine.optimizer.load_state_dict(state["optimizer"])
        elif state["world"] != self._processes.world:
            raise UserError(
                f"{path} holds ZeRO shards of {state['world']} processes and cannot be loaded on "
                f"{self._processes.world}; start {state['world']}, or train with zero_stage: 0"
            )
        else:
            engine.deepspeed_engine.load_checkpoint(str(path / "zero"), tag="state")
        if state["world"] == self._processes.world:
            _restore_random_state(torch.load(path / f"rng_{self._processes.rank}.pt", weights_only=True))
        if self._processes.is_first and (path / "best.safetensors").exists():
            # Weights kept after this checkpoint belong to work that is lost.
            self.best_path.parent.mkdir(exist_ok=True)
            temporary = self.best_path.with_suffix(".tmp")
            temporary.unlink(missing_ok=True)
            os.link(path / "best.safetensors", temporary)
            temporary.replace(self.best_path)
        self._processes.barrier()
        return replace(Progress(), **state["progress"])

    def _complete(self) -> Iterator[Path]:
        """Marked checkpoints, newest first by step number."""
        yield from sorted(
            (path.parent for path in self._folder.glob(f"step_*/{COMPLETE}")),
            key=lambda path: int(path.name.removeprefix("step_")),
            reverse=True,
        )

    def _prune(self) -> None:
        for path in list(self._complete())[self._keep :]:
            shutil.rmtree(path)


def load_weights(path: Path, model: torch.nn.Module) -> int:
    """Load kept weights into a model; returns the step they are from."""
    model.load_state_dict(load_file(path))
    with safe_open(path, framework="pt") as file:
        return int((file.metadata() or {}).get("step", 0))


def _random_state() -> dict[str, Any]:
    state = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def _restore_random_state(state: dict[str, Any]) -> None:
    torch.set_rng_state(state["cpu"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])


def _sync(path: Path) -> None:
    """Flush a file or folder to the disk."""
    if path.is_dir():
        sync_folder(path)
        return
    with path.open("rb") as stream:
        os.fsync(stream.fileno())
