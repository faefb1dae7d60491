"""Threads that decode follow the cores of the process that trains, and a run that waits for images says what helps."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from scaling.data.read.loader import Batch, TrainLoader
from scaling.records.attempts.causes import Verdict, decide
from scaling.records.attempts.contract import BAD_INPUT, MACHINE_TROUBLE
from scaling.records.attempts.ends import read_ends
from scaling.records.result import RunResult
from scaling.train.processes import decoding
from scaling.train.processes.decoding import decoding_threads, own_cores, starvation
from tests.support.process_tree import children
from tests.support.ranks import codes, start_run
from tests.support.run_folders import wait_for_checkpoint

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
    ("cores", "arithmetic", "processes", "threads"),
    [
        *[(1, 1, 0, 1), (2, 2, 0, 1), (2, 1, 0, 1), (4, 1, 0, 3), (12, 1, 0, 11), (64, 1, 0, 16)],
        *[(64, 1, 1, 16), (64, 1, 2, 32), (32, 1, 6, 31), (2, 1, 6, 6)],
    ],
)
def test_threads_that_decode(cores: int, arithmetic: int, processes: int, threads: int) -> None:
    assert decoding_threads(cores, arithmetic, processes) == threads


def test_waiting_is_told_with_the_remedy_that_there_is() -> None:
    assert starvation(1.9, 0.1, 9, 1, 0, 12) == "" and starvation(19, 81, 9, 1, 0, 12) == ""
    told = starvation(30, 70, 9, 1, 0, 12)
    assert "30 of 100 s" in told and "raise launch.loader_threads, as the process has 12 cores" in told
    told = starvation(30, 70, 9, 11, 0, 12)
    assert "give it more cores" in told and "raise launch.loader_threads" not in told


def test_where_interpreters_are_the_limit_more_processes_are_the_remedy() -> None:
    assert starvation(30, 70, 400_000, 11, 0, 12).endswith("hand out; set launch.loader_processes: 2")
    told = starvation(30, 70, 1_400_000, 31, 4, 32)
    assert "31 threads in 4 decode processes" in told and told.endswith("set launch.loader_processes: 8")
    assert "give it more cores" in starvation(30, 70, 500_000, 31, 4, 32)
    assert "give it more cores" in starvation(30, 70, 400_000, 1, 0, 1)


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


def command_of(run_dir: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "scaling.train", str(run_dir), "--threads", "1", *options]


def test_decode_processes_change_no_number_of_a_run(plan_tiny) -> None:
    [here], [there] = plan_tiny("protocol.steps=6", name="here"), plan_tiny("protocol.steps=6", name="there")
    subprocess.run(command_of(here.run_dir), capture_output=True, check=True)
    options = ("--loader-processes", "2", "--loader-threads", "3", "--pixel-cache", "0.001")
    answer = subprocess.run(command_of(there.run_dir, *options), capture_output=True, text=True, check=True)
    assert "images decoded by 3 threads in 2 decode processes" in answer.stderr
    assert "up to 0.0 GB of memory, shared by 1 training and 2 decode processes" in answer.stderr
    weights = [RunResult.load(run.run_dir, run.plan).weights_sha256 for run in (here, there)]
    assert weights[0] == weights[1]


def test_processes_of_a_node_share_decoded_images_and_get_the_same_numbers(plan_tiny) -> None:
    """Two ranks with one memory, and with memories of their own, as on two nodes."""
    options = ("protocol.steps=8", "launch.devices_per_run=2")
    [here], [apart] = plan_tiny(*options, name="here"), plan_tiny(*options, name="apart")
    assert codes(start_run(here.run_dir, 2)) == [0, 0] == codes(start_run(apart.run_dir, 2, be_on_a_node_of_its_own))
    assert "shared by 2 training and 0 decode processes" in (here.run_dir / "log.txt").read_text()
    assert "remembered in up to 0.5 GB of memory\n" in (apart.run_dir / "log.txt").read_text()
    weights = [RunResult.load(run.run_dir, run.plan).weights_sha256 for run in (here, apart)]
    assert weights[0] == weights[1]


def be_on_a_node_of_its_own(rank: int) -> None:
    from scaling.train.processes import node_memory

    node_memory._this_node = lambda: f"node {rank}"


def test_more_decode_processes_than_threads_are_refused(plan_tiny) -> None:
    [run] = plan_tiny("protocol.steps=2")
    command = command_of(run.run_dir, "--loader-processes", "3", "--loader-threads", "2")
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    assert answer.returncode == BAD_INPUT and "2 loader threads are too few for 3 loader processes" in answer.stderr


def test_a_killed_decode_process_is_a_failure_that_is_tried_again(plan_tiny) -> None:
    [run] = plan_tiny("protocol.steps=100000", "defaults.checkpoint_every=50steps")
    command = command_of(run.run_dir, "--loader-processes", "1")
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as training:
        wait_for_checkpoint(run.run_dir, 50)
        started = {one: Path(f"/proc/{one}/cmdline").read_bytes() for one in children(training.pid)}
        [parent] = [one for one, command in started.items() if b"decode_worker" in command]
        os.kill(children(parent)[0], signal.SIGKILL)
        assert training.wait(60) == MACHINE_TROUBLE
    ends = read_ends(run.run_dir)
    assert ends.last is not None and ends.last.message.startswith("a decode process was ended by SIGKILL; ")
    assert decide(ends.counted, retries=1).verdict is Verdict.RETRY_COUNTED
