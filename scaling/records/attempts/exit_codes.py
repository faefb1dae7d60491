"""The contract between a training process and whoever started it: exit codes, and signals that ask it to leave.

Any other exit code, or death by a signal, means that the process ended without saying why.
"""

import signal

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
