"""How many threads decode images for a process, and what to do when they are too few.

Both follow what the executing process has, never the machine that planned the run: threads change no number.
"""

import os
from collections.abc import Mapping

MOST_THREADS = 16
"""The interpreter's part of an image, about 0.1 ms, is done by one thread at a time: more threads than these gain
nothing."""

INTERPRETER_RATE = 1500.0
"""Images a second, from where on the threads of one interpreter wait for each other: on images of 32 px two of them
reach 6,500 together, and one alone 8,400 (`scaling/bench/results`); slow cores do fewer."""

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


def decoding_threads(cores: int, arithmetic_threads: int, processes: int = 0) -> int:
    """All cores but those of the arithmetic, of which a GPU leaves one for starting its kernels; at least one, also for
    each of the decode `processes`."""
    return min(max(1, processes, cores - arithmetic_threads), MOST_THREADS * max(1, processes))


def describe_decoders(threads: int, processes: int) -> str:
    """`3 threads`, or `6 threads in 2 decode processes`."""
    told = f"{threads} thread{'' if threads == 1 else 's'}"
    return f"{told} in {processes} decode process{'' if processes == 1 else 'es'}" if processes else told


def starvation(
    wait_seconds: float, step_seconds: float, num_images: int, threads: int, processes: int, cores: int
) -> str:
    """What to tell of steps on `num_images` images of this process that waited so long for them, with the remedy; empty
    where they did not."""
    total = wait_seconds + step_seconds
    if wait_seconds < STARVING_SECONDS or wait_seconds < STARVING_SHARE * total:
        return ""
    told = (
        f"decoding is slower than stepping: {wait_seconds:.0f} of {total:.0f} s were spent waiting for images, decoded "
        f"by {describe_decoders(threads, processes)}"
    )
    rate = num_images / total
    interpreters = max(1, processes)
    if threads > interpreters and rate > INTERPRETER_RATE * interpreters:
        return (
            f"{told}; {rate:,.0f} images/s are near the most that {interpreters} interpreter"
            f"{'' if interpreters == 1 else 's'} can hand out; set launch.loader_processes: {2 * interpreters}"
        )
    if threads < min(cores - 1, MOST_THREADS * interpreters):
        return f"{told}; raise launch.loader_threads, as the process has {cores} cores"
    return (
        f"{told} of a process with {cores} core{'' if cores == 1 else 's'}; give it more cores (launch.cpus, or "
        "cpus_per_task of a profile), store smaller images, or keep shards near (data.cache)"
    )
