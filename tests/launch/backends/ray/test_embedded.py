"""A Ray of the launcher's own on this machine: the numbers of the local back end, reached from nowhere else, ended with
everything it started."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from scaling.records.attempts.attempt import latest_number
from scaling.records.attempts.causes import Cause
from scaling.records.attempts.ends import read_ends
from scaling.records.standing import find_standing
from scaling.records.state import Status
from tests.launch.backends.ray.lab import (
    assert_same_numbers,
    held_at,
    is_pending,
    listening_addresses,
    marked_processes,
    run_dirs,
    train_plan_here,
    wait_until,
)
from tests.support.tiny_study import TINY_SWEEP

STEPS = ("protocol.steps=30", "grid.seed=[0, 1]", "defaults.log_every=1", "defaults.checkpoint_every=15")


class Study:
    """One sweep in a folder, launched by the command line."""

    def __init__(self, folder: Path, data: Path) -> None:
        self._sweep, self.mark = folder / "tiny.yaml", f"embedded-{os.getpid()}-{folder.name}"
        self._sweep.write_text(TINY_SWEEP.format(root=json.dumps(str(data))))
        self.folder = folder

    def start(self, *options: str) -> subprocess.Popen[str]:
        settings = [part for setting in STEPS for part in ("--set", setting)]
        return subprocess.Popen(
            [
                *(sys.executable, "-m", "scaling.launch", str(self._sweep), *settings, "--backend", "ray"),
                *("--out", str(self.folder / "runs"), *options),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"SCALING_TEST_MARK": self.mark},
        )

    def launch(self, *options: str) -> tuple[int, str]:
        """Exit code and what was said on stderr."""
        process = self.start(*options)
        _, told = process.communicate(timeout=300)
        return process.returncode, told

    def planned(self) -> list[Path]:
        """The folders of its two runs, once they are there."""
        wait_until(lambda: len(run_dirs(self.folder / "runs" / "tiny")) == 2, 60, "run folders")
        return run_dirs(self.folder / "runs" / "tiny")


@pytest.fixture
def study(tiny_data: Path, tmp_path: Path) -> Study:
    return Study(tmp_path, tiny_data)


def test_numbers_are_those_of_the_local_back_end_and_nothing_is_left(study: Study) -> None:
    launcher = study.start()
    first, second = study.planned()
    with held_at(first, 3):
        assert {address.split(":")[0] for address in listening_addresses(study.mark)} == {"127.0.0.1"}
        launcher.send_signal(signal.SIGTERM)
    _, told = launcher.communicate(timeout=180)
    assert launcher.returncode == 130 and "stopping (SIGTERM)" in told, told
    [end] = read_ends(first).all
    assert end.cause is Cause.PREEMPTED and end.step >= 3
    wait_until(lambda: not marked_processes(study.mark), 30, "end of all processes")

    code, told = study.launch()
    assert code == 0, told
    assert "Traceback" not in told and "ray" not in told.lower().replace("--backend ray", ""), told
    for run in (first, second):
        assert_same_numbers(train_plan_here(run, study.folder / "local" / run.name), run)
    wait_until(lambda: not marked_processes(study.mark), 30, "end of all processes")
    assert not list((study.folder / "runs" / "tiny" / "jobs").glob("*.json"))


def test_a_killed_launcher_takes_its_ray_along_and_a_detached_one_leaves_a_keeper(study: Study) -> None:
    launcher = study.start("--set", "launch.ray.max_parallel=1")
    first, second = study.planned()
    with held_at(first, 3) as [process]:
        launcher.kill()
        launcher.communicate()
        wait_until(lambda: is_pending(process, signal.SIGTERM), 60, "request to save")
    wait_until(lambda: not marked_processes(study.mark), 60, "end of all processes")
    [end] = read_ends(first).all
    assert end.cause is Cause.PREEMPTED, end
    assert latest_number(second) == 0

    code, told = study.launch("--set", "launch.ray.max_parallel=1", "--detach")
    assert code == 0 and "2 runs submitted" in told, told
    with held_at(first, end.step + 1):
        code, told = study.launch("--cancel", first.name)
        assert code == 0, told
        time.sleep(1)
    wait_until(lambda: not marked_processes(study.mark), 120, "end of the keeper")
    assert find_standing(first).status is Status.CANCELLED
    assert find_standing(second).status is Status.DONE
    assert latest_number(second) == 1
