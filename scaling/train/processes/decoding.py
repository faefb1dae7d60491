"""How many threads decode images for a process, and what to do when they are too few.

Both follow what the executing process has, never the machine that planned the run: threads change no number.
"""

import os
from collections.abc import Mapping

MOST_THREADS = 16
"""The interpreter's part of an image, about 0.1 ms, is done by one thread at a time: more threads than these gain
nothing."""

STARVING_SHARE, STARVING_SECONDS = 0.2, 2.0
"""Of the time of some steps, and at least so long: a run that waits more for images logs a warning."""


def own_cores(threads: int | None, local_world: int, environment: Mapping[str, str] = os.environ) -> int:
    """CPU cores that one process may count as its own.

    `threads` is what a back end gave it for its arithmetic, which is a thread for each core of its own. Without, what
    Slurm gave each task; else an even share of the cores that this process may run on among the `local_world`
    processes of its node.
    """
    usable = len(os.sched_getaffinity(0))
    if threads is not None:
        return min(threads, usable)
    given = environment.get("SLURM_CPUS_PER_TASK", "")
    if given.isascii() and given.isdecimal():
        return max(1, min(int(given), usable))
    return max(1, usable // local_world)


def decoding_threads(cores: int, arithmetic_threads: int) -> int:
    """All cores but those of the arithmetic, of which a GPU leaves one for starting its kernels; at least one."""
    return min(max(1, cores - arithmetic_threads), MOST_THREADS)


def starvation(wait_seconds: float, step_seconds: float, threads: int, cores: int) -> str:
    """What to tell of steps that waited so long for images, with the remedy; empty where they did not."""
    total = wait_seconds + step_seconds
    if wait_seconds < STARVING_SECONDS or wait_seconds < STARVING_SHARE * total:
        return ""
    told = (
        f"decoding is slower than stepping: {wait_seconds:.0f} of {total:.0f} s were spent waiting for images, decoded "
        f"by {threads} thread{'' if threads == 1 else 's'}"
    )
    if threads < min(cores - 1, MOST_THREADS):
        return f"{told}; raise launch.loader_threads, as the process has {cores} cores"
    return (
        f"{told} of a process with {cores} core{'' if cores == 1 else 's'}; give it more cores (launch.cpus, or "
        "cpus_per_task of a profile), store smaller images, or keep shards near (data.cache)"
    )
