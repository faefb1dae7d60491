"""What one process of a run is given of its machine: decided by who executes the run, never by its plan."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """How one training process is executed."""

    threads: int | None = None
    """Threads of its CPU arithmetic, one for each core that it has for itself; None leaves the library's choice
    (OMP_NUM_THREADS, or all cores)."""
    loader_threads: int | None = None
    """Threads that read and decode images for it; None: as many as its cores allow."""


AS_IT_COMES = Execution()
