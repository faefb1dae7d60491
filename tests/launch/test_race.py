"""Launchers that start at the same moment on the same study: every run is trained once, and all of them end well.

Real launchers, each a process of its own that plans, writes the study, submits and watches, with real processes for
their runs. Only the arithmetic is left out, so that twenty starts take a minute: whoever gets a run writes its result.
Two launchers with real training are in test_local_study.py; leases between machines in tests/records/test_lease.py.
"""

import json
import multiprocessing
import os
import sys
import time
import types
from pathlib import Path
from typing import Any

import pytest

from scaling.records.attempts.causes import Cause
from scaling.records.attempts.ends import End, append_end, read_ends
from scaling.records.run_dir import RunDir
from tests.support.scripted_backend import result_of

SWEEP = """\
study: raced
data: {{root: {root}, train: train.json, val: val.json}}
protocol: {{kind: constant_steps, steps: 5, batch: 16}}
defaults: {{learning_rate: 1.0e-3}}
grid: {{model: [mixer-laptop-32px], fraction: [0.5, 1.0], seed: [0, 1]}}
"""

NUM_RUNS = 4

TRAINED = "trained"
"""A line for every process that trained the run."""


def write_result(folder: Path, plan: Any, flag: Any, execution: Any, lease: Any, attempt: Any) -> int:
    """In the place of training, by a process that holds the run."""
    lease.check()
    with (folder / TRAINED).open("a") as stream:
        stream.write(f"{os.getpid()}\n")
    time.sleep(0.05)
    lease.check()
    result_of(plan).save(folder)
    append_end(folder, End(attempt=attempt.attempt, cause=Cause.DONE, code=0, step=plan.schedule.steps))
    return 0


def train_without_arithmetic(*arguments: Any) -> None:
    """The process of a run: all of it but the session, which would load PyTorch."""
    from scaling.launch.backends.local.run import _train

    session = types.ModuleType("scaling.train.session")
    session.run_session = write_result  # type: ignore[attr-defined]
    sys.modules["scaling.train.session"] = session
    sys.modules["scaling.train.processes.preload"] = types.ModuleType("scaling.train.processes.preload")
    _train(*arguments)


class LightServer:
    """Takes the place of the server that has imported PyTorch."""

    def __init__(self) -> None:
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["scaling.launch.backends.local.run", "tests.launch.test_race"])

    def process(self, threads: int, **arguments: Any) -> Any:
        return self._context.Process(target=train_without_arithmetic, **arguments)


def launch(sweep: Path, begin: float, log: Path) -> None:
    """`python -m scaling.launch SWEEP`, begun at a given time."""
    from scaling.errors import run_command
    from scaling.launch import command
    from scaling.launch.backends.local import backend, machine_locks

    stream = os.open(log, os.O_WRONLY | os.O_CREAT)
    os.dup2(stream, 1)
    os.dup2(stream, 2)
    # Only these launchers share cores: what else is tested on this machine shall not hold them up.
    machine_locks.FILE = str(sweep.with_suffix(".locks"))
    backend.WarmServer = LightServer  # type: ignore[assignment, misc]
    done = types.SimpleNamespace(returncode=0)
    command.subprocess = types.SimpleNamespace(run=lambda *words, **named: done, DEVNULL=None)  # type: ignore[attr-defined]
    time.sleep(max(0.0, begin - time.time()))
    raise SystemExit(run_command(command.main, [str(sweep), "--out", str(sweep.parent / "runs")]))


@pytest.mark.parametrize("number", [2, 3])
def test_of_launchers_that_start_at_once_one_trains_each_run(number: int, tiny_data: Path, tmp_path: Path) -> None:
    """Six starts; the launchers of some come a little after each other, while the first ones write or train."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["scaling.launch.command", "scaling.launch.backends.local.backend"])
    for start in range(6):
        folder = tmp_path / str(start)
        folder.mkdir()
        sweep = folder / "raced.yaml"
        sweep.write_text(SWEEP.format(root=json.dumps(str(tiny_data))))
        begin = time.time() + 1.0
        apart = 0.05 * (start % 5)
        logs = [folder / f"launcher-{rank}.log" for rank in range(number)]
        launchers = [
            context.Process(target=launch, args=(sweep, begin + rank * apart, log)) for rank, log in enumerate(logs)
        ]
        for process in launchers:
            process.start()
        for process in launchers:
            process.join(timeout=120)
        told = "\n".join(log.read_text() for log in logs)
        assert [process.exitcode for process in launchers] == [0] * number, told
        runs = list((folder / "runs" / "raced").glob("*/run.json"))
        assert len(runs) == NUM_RUNS
        for path in runs:
            run = RunDir(path.parent)
            assert len((run.path / TRAINED).read_text().splitlines()) == 1, told
            assert [file.name for file in run.attempts.iterdir()] == ["1.json"]
            assert [end.cause for end in read_ends(run.path).all] == [Cause.DONE]
            assert not run.lease.exists()
