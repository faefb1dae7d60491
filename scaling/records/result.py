"""`result.json`: what a finished run found and what it cost, written once, atomically."""

from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict

from scaling.records.files import write_text_atomic

RESULT_SCHEMA = 1

BEST_WEIGHTS = Path("checkpoints", "best", "model.safetensors")
"""Inside a run's folder: the weights with the best upstream validation."""


class RunResult(BaseModel):
    """Final numbers of one run. Accuracies are fractions in [0, 1]; times are seconds over all attempts."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    result_schema: int = RESULT_SCHEMA
    run_id: str
    identity: str
    attempts: int
    metrics: dict[str, float]
    """`<eval>/<metric>` of the kept weights (best upstream validation), and of training at the last step."""
    evals: dict[str, str] = {}
    """Digest of each evaluation that `metrics` holds, by name: which of the planned ones are still to do."""
    best_step: int
    """Step of the kept weights."""
    steps: int
    """Optimiser steps taken."""
    stopped_early: bool = False
    """Whether the run ended before its planned steps because its patience was out."""
    examples_seen: int
    unique_examples: int
    flops: float
    train_seconds: float
    pause_seconds: float
    device_hours: float
    """(train_seconds + pause_seconds) * num_devices / 3600."""
    images_per_second: float
    """Training throughput over all devices: examples_seen / train_seconds."""
    device: str
    """Name of the device as its driver reports it."""
    num_devices: int
    precision: str
    threads: int
    hardware: dict[str, Any]
    packages: dict[str, str]
    git_commit: str
    git_dirty: bool

    def save(self, run_dir: Path) -> None:
        write_text_atomic(run_dir / "result.json", self.model_dump_json(indent=2) + "\n")

    @classmethod
    def load(cls, run_dir: Path) -> Self | None:
        """The result, or None while the run is not done."""
        path = run_dir / "result.json"
        return cls.model_validate_json(path.read_text()) if path.exists() else None
