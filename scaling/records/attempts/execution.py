"""What one process of a run is given of its machine: decided by who executes the run, never by its plan."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """How one training process is executed."""

    threads: int | None = None
    """Threads of its CPU arithmetic; None leaves the library's choice (OMP_NUM_THREADS, or all cores)."""
    loader_threads: int = 1
    """Threads that read and decode images for it."""


AS_IT_COMES = Execution()
