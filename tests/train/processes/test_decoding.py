"""Threads that decode follow the cores of the process that trains, and a run that waits for images says what helps."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from scaling.data.read.loader import Batch, TrainLoader
from scaling.train.processes import decoding
from scaling.train.processes.decoding import decoding_threads, own_cores, starvation
from tests.support.ranks import codes, start_run

USABLE = len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("threads", "local_world", "environment", "cores"),
    [
        (1, 8, {}, 1),
        (None, 1, {}, USABLE),
        (None, USABLE, {}, 1),
        (None, 10 * USABLE, {}, 1),
        (None, 4, {"SLURM_CPUS_PER_TASK": str(USABLE)}, USABLE),
        (None, 1, {"SLURM_CPUS_PER_TASK": "1"}, 1),
        (None, 1, {"SLURM_CPUS_PER_TASK": "12(x2)"}, USABLE),
        (1000, 1, {}, USABLE),
    ],
)
def test_cores_of_a_process(threads: int | None, local_world: int, environment: dict[str, str], cores: int) -> None:
    assert own_cores(threads, local_world, environment) == cores


@pytest.mark.parametrize(
    ("cores", "arithmetic", "threads"), [(1, 1, 1), (2, 2, 1), (2, 1, 1), (4, 1, 3), (12, 1, 11), (64, 1, 16)]
)
def test_threads_that_decode(cores: int, arithmetic: int, threads: int) -> None:
    assert decoding_threads(cores, arithmetic) == threads


def test_waiting_is_told_with_the_remedy_that_there_is() -> None:
    assert starvation(1.9, 0.1, 1, 12) == "" and starvation(19, 81, 1, 12) == ""
    told = starvation(30, 70, 1, 12)
    assert "30 of 100 s" in told and "raise launch.loader_threads, as the process has 12 cores" in told
    told = starvation(30, 70, 11, 12)
    assert "give it more cores" in told and "raise launch.loader_threads" not in told


def read_slowly(rank: int) -> None:
    """Every batch takes a moment; what counts as long is lowered, so that the test need not take long."""
    read = TrainLoader.__iter__

    def slowly(loader: TrainLoader) -> Iterator[Batch]:
        for batch in read(loader):
            time.sleep(0.1)
            yield batch

    TrainLoader.__iter__ = slowly  # type: ignore[assignment,method-assign]
    decoding.STARVING_SECONDS = 0.15


def test_a_run_that_waits_for_images_says_so_once(plan_tiny) -> None:
    [run] = plan_tiny("protocol.steps=12", "defaults.log_every=2", "defaults.validate_every=12")
    assert codes(start_run(run.run_dir, 1, read_slowly)) == [0]
    told = (run.run_dir / "log.txt").read_text()
    assert told.count("decoding is slower than stepping") == 1
    assert "decoded by 1 thread of a process with 1 core;" in told


def test_a_run_is_decoded_by_the_threads_that_were_asked_for(plan_tiny) -> None:
    [run] = plan_tiny("protocol.steps=2")
    command = [sys.executable, "-m", "scaling.train", str(run.run_dir), "--threads", "1", "--loader-threads", "3"]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "images decoded by 3 threads" in answer.stdout + answer.stderr
