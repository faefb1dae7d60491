"""The seam between the launcher and the places where runs are executed.

A backend starts run directories and says which have ended; it knows nothing of sweeps, and training knows
nothing of backends. Where a run stands is always read from its directory, never from a backend's memory.
"""

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from scaling.errors import UserError, did_you_mean
from scaling.spec.study import LaunchSpec

BACKENDS = {"local": "scaling.launch.backends.local:LocalBackend"}
"""Name in a sweep's `launch.backend` -> class. A module is imported only when its backend is chosen."""


@dataclass(frozen=True, slots=True)
class Ended:
    """A run whose process is gone."""

    run_dir: Path
    exit_code: int


class Backend(Protocol):
    """One place where runs are executed."""

    threads_per_process: int
    """CPU threads that planning writes into each run."""

    def has_room(self) -> bool:
        """Whether another run can be started now."""

    def start(self, run_dir: Path) -> None:
        """Start one run from its run.json; returns at once."""

    def poll(self) -> list[Ended]:
        """Runs that ended since the last call; never blocks."""

    def stop(self) -> None:
        """Ask every run to save a checkpoint and leave, and wait until they have."""

    @property
    def num_slots(self) -> int:
        """How many runs proceed at a time: what the remaining time is divided by."""


def make_backend(launch: LaunchSpec) -> Backend:
    """The backend a sweep names."""
    if launch.backend not in BACKENDS:
        raise UserError(f"launch.backend: {launch.backend!r} is no backend; {did_you_mean(launch.backend, BACKENDS)}")
    module, _, name = BACKENDS[launch.backend].partition(":")
    backend: Backend = getattr(importlib.import_module(module), name)(launch)
    return backend
