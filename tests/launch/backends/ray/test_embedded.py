"""A Ray of the launcher's own on this machine: the numbers of the local back end, reached from nowhere else, ended with
everything it started."""

import os
import signal
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
    train_plan_here,
    wait_until,
    wait_until_gone,
)
from tests.launch.backends.ray.study import Study


@pytest.fixture
def study(tiny_data: Path, tmp_path: Path) -> Study:
    return Study(tmp_path, tiny_data, f"embedded-{os.getpid()}-{tmp_path.name}", ["grid.seed=[0, 1]"])


def test_numbers_are_those_of_the_local_back_end_and_nothing_is_left(study: Study) -> None:
    launcher = study.start()
    first, second = study.planned()
    with held_at(first, 3) as [process]:
        assert {address.split(":")[0] for address in listening_addresses(study.mark)} == {"127.0.0.1"}
        launcher.send_signal(signal.SIGTERM)
        wait_until(lambda: is_pending(process, signal.SIGTERM), 60, "request to save")
    _, told = launcher.communicate(timeout=180)
    assert launcher.returncode == 130 and "stopping (SIGTERM)" in told, told
    [end] = read_ends(first).all
    assert end.cause is Cause.PREEMPTED and end.step >= 3
    wait_until_gone(study.mark)

    code, told = study.launch()
    assert code == 0, told
    assert "Traceback" not in told and "ray" not in told.lower().replace("--backend ray", ""), told
    for run in (first, second):
        assert_same_numbers(train_plan_here(run, study.folder / "local" / run.name), run)
    wait_until_gone(study.mark)
    assert not list((study.folder / "runs" / "tiny" / "jobs").glob("*.json"))


def test_a_killed_launcher_takes_its_ray_along_and_a_detached_one_leaves_a_keeper(study: Study) -> None:
    launcher = study.start("--set", "launch.ray.max_parallel=1")
    first, second = study.planned()
    with held_at(first, 3) as [process]:
        launcher.kill()
        launcher.communicate()
        wait_until(lambda: is_pending(process, signal.SIGTERM), 60, "request to save")
    wait_until_gone(study.mark)
    [end] = read_ends(first).all
    assert end.cause is Cause.PREEMPTED, end
    assert latest_number(second) == 0

    code, told = study.launch("--set", "launch.ray.max_parallel=1", "--detach")
    assert code == 0 and "2 runs submitted" in told, told
    with held_at(first, end.step + 1) as [process]:
        code, told = study.launch("--cancel", first.name)
        assert code == 0, told
        wait_until(lambda: is_pending(process, signal.SIGTERM), 60, "request to stop")
    wait_until_gone(study.mark)
    assert find_standing(first).status is Status.CANCELLED
    assert find_standing(second).status is Status.DONE
    assert latest_number(second) == 1
