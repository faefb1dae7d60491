"""The contract between a training process and whoever started it: exit codes, signals that ask it to leave, and what it
is given of its machine, which whoever executes the run decides and its plan never does.

Any other exit code, or death by a signal, means that the process ended without saying why.
"""

import signal
from dataclasses import dataclass

DONE = 0
FAILED = 1
"""The run ended with an error, recorded in its state, its ends and its log."""
BAD_INPUT = 2
PREEMPTED = 3
"""The run was asked to leave and saved a checkpoint; starting it again continues it."""
BUSY = 4
"""Another living process holds the run, or took it over; nothing more was written."""
LOST_PARTNER = 5
"""Another process of the run died or stayed silent; starting the run again continues from its last checkpoint."""
MACHINE_TROUBLE = 6
"""The machine could not start or feed the run (GPU, rendezvous, storage); another machine may."""
OUT_OF_MEMORY = 7
"""A process ran out of memory of its device or host."""

LEAVE_SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
"""Each asks a training process to save a checkpoint and leave with PREEMPTED, and a launcher to do so with all its
runs. SIGUSR1 is the early warning that Slurm is told to send."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """How one training process is executed."""

    threads: int | None = None
    """Threads of its CPU arithmetic, one for each core that it has for itself; None leaves the library's choice
    (OMP_NUM_THREADS, or all cores)."""
    loader_threads: int | None = None
    """Threads that read and decode images for it; None: as many as its cores allow."""
    loader_processes: int = 0
    """Processes that these threads belong to; 0: its own."""
    pixel_cache_gb: float | None = None
    """Memory of a node for decoded images of the training set, 10^9 bytes, shared by its processes; None: half a GB for
    each."""

    def arguments(self) -> list[str]:
        """The same as options of `python -m scaling.train`."""
        options = {
            "--threads": self.threads,
            "--loader-threads": self.loader_threads,
            "--loader-processes": self.loader_processes,
            "--pixel-cache": self.pixel_cache_gb,
        }
        return [word for option, value in options.items() if value for word in (option, str(value))]


AS_IT_COMES = Execution()
