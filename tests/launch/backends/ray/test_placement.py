"""Where runs are placed: one run on two nodes, four runs on one GPU, nodes by label and custom resource, nodes that are
not there; and a cancelled study of which nobody is left."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from scaling.records.attempts.causes import Cause
from scaling.records.attempts.ends import read_ends
from scaling.records.run_dir import RunDir
from scaling.records.standing import find_standing
from scaling.records.state import Status
from tests.launch.backends.ray.conftest import MakeStudy
from tests.launch.backends.ray.lab import (
    Cluster,
    assert_same_numbers,
    environment_of,
    held_at,
    is_pending,
    marked_processes,
    needs_cluster,
    only_processes_held_at,
    train_plan_here,
    training_processes,
    two_nodes,
    wait_for_result,
    wait_until,
)

pytestmark = needs_cluster


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One for all tests of this file, since none of them breaks it."""
    with two_nodes(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


def actors(mark: str) -> dict[int, str]:
    """Ray's names of the actors of a test that are there, by process id."""
    found = {}
    for pid in marked_processes(mark):
        try:
            title = (Path("/proc") / str(pid) / "cmdline").read_bytes().partition(b"\0")[0].decode()
        except OSError:
            continue
        # While it answers a call, its title goes on with the name of the method.
        name = title.strip().partition(".")[0]
        if name in ("ray::StudyQueue", "ray::Supervisor", "ray::Rank"):
            found[pid] = name
    return found


def test_a_run_on_two_nodes_survives_a_killed_process_and_nobody_is_left_of_a_cancelled_one(
    cluster: Cluster, make_study: MakeStudy
) -> None:
    study = make_study(
        *("launch.nodes=2", "launch.ray.strategy=STRICT_SPREAD", "launch.ray.num_gpus=0"),
        *("launch.ray.max_parallel=1", "grid.seed=[0, 1]", "defaults.checkpoint_every=5"),
    )
    code, told = study.launch("--detach")
    assert code == 0 and "2 runs submitted" in told, told
    first, second = study.planned()
    with held_at(first, 7) as processes:
        assert sorted(map(cluster.node_of, processes)) == ["head", "second"]
        assert not training_processes(second)
        [other] = [pid for pid in processes if environment_of(pid, "RANK") == "1"]
        os.kill(other, signal.SIGKILL)
    wait_for_result(first)
    with held_at(second, 3) as processes:
        # Nobody is left who saw the attempt end, and the next supervisor finds a run that shall stop.
        [supervisor] = [pid for pid, name in actors(cluster.mark).items() if name == "ray::Supervisor"]
        for pid in (supervisor, *processes):
            os.kill(pid, signal.SIGKILL)
        code, told = study.launch("--cancel", "all")
        assert code == 0 and f"{second.name}: asked to stop" in told, told
    wait_until(lambda: not training_processes(second) and not actors(cluster.mark), 90, "end of all actors")
    assert find_standing(second).status is Status.CANCELLED
    [end] = read_ends(second).all
    assert end.cause is Cause.LOST
    assert not list((second.parent / "jobs").glob("*.json"))
    assert [end.cause for end in read_ends(first).all] == [Cause.LOST, Cause.DONE]
    assert_same_numbers(train_plan_here(first, study.folder / "reference", world=2), first)


def test_four_runs_share_a_gpu_on_the_node_that_was_asked_for(cluster: Cluster, make_study: MakeStudy) -> None:
    study = make_study(
        *("launch.ray.num_gpus=0.25", "launch.ray.num_cpus=0.25", "launch.ray.labels={zone: b}"),
        *("launch.ray.resources={fast: 0.25}", "grid.seed=[0, 1, 2, 3]"),
    )
    assert study.launch("--detach")[0] == 0
    runs = study.planned(4)
    with only_processes_held_at(runs, 2) as processes:
        assert {cluster.node_of(pid) for pid in processes.values()} == {"second"}
        assert {environment_of(pid, "CUDA_VISIBLE_DEVICES") for pid in processes.values()} == {"0"}
        assert study.launch("--cancel", "all")[0] == 0
        wait_until(lambda: all(is_pending(pid, signal.SIGTERM) for pid in processes.values()), 60, "requests to stop")
    wait_until(lambda: not any(map(training_processes, runs)) and not actors(cluster.mark), 90, "end of all actors")
    assert [find_standing(run).status for run in runs] == [Status.CANCELLED] * 4
    assert all(read_ends(run).all[-1].step < 30 for run in runs)


def test_a_run_that_no_node_can_hold_is_refused_or_waits_for_one(cluster: Cluster, make_study: MakeStudy) -> None:
    for wish, wants in (
        ("launch.ray.num_cpus=2", "CPU 2"),
        ("launch.ray.labels={zone: c}", "CPU 1, label zone: c"),
        ("launch.ray.resources={slow: 1}", "CPU 1, slow 1"),
        ("launch.nodes=4", "4 nodes (PACK) with CPU 1 each"),
    ):
        study = make_study("launch.ray.num_gpus=0", wish, name="refused")
        code, told = study.launch()
        [error] = [line for line in told.splitlines() if line.startswith("error: ")]
        assert code == 2 and f"a run takes {wants}, but" in error, told
        assert "has 2 nodes: " in error and "fast 1" in error, told
        assert not (study.folder / "runs").exists()

    wait = ("launch.ray.num_gpus=0", "launch.ray.resources={late: 1}", "launch.ray.autoscaler=true")
    code, told = make_study(*wait).launch("--detach")
    assert code == 0 and "it waits for nodes that the autoscaler adds" in told, told
    [run] = make_study(*wait).planned(1)
    time.sleep(2)
    assert not RunDir(run).attempts.exists()
    cluster.start("third", "127.0.0.3", resources='{"late": 1}')
    with held_at(run, 2) as [process]:
        assert cluster.node_of(process) == "third"
    wait_for_result(run)
