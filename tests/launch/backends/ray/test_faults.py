"""A node, a process, the launcher and the head are killed in mid-run on real raylets: no run is lost, none is trained
twice, and every number is that of a run without the fault."""

import os
import signal
from pathlib import Path

from scaling.records.attempts.causes import Cause
from scaling.records.attempts.ends import read_ends
from tests.launch.backends.ray.conftest import MakeStudy
from tests.launch.backends.ray.lab import (
    Cluster,
    assert_same_numbers,
    is_pending,
    needs_cluster,
    only_processes_held_at,
    train_plan_here,
    training_processes,
    wait_for_result,
    wait_until,
)
from tests.support.run_folders import starts, steps_saved

pytestmark = needs_cluster

SETTINGS = ("launch.ray.num_gpus=0", "grid.seed=[0, 1]", "defaults.checkpoint_every=5")


def last_saved(run_dir: Path) -> int:
    """Step of the newest checkpoint that is complete; they are written beside the steps."""
    return max(steps_saved(run_dir), default=0)


def test_a_lost_node_a_lost_process_and_a_killed_launcher(cluster: Cluster, make_study: MakeStudy) -> None:
    study = make_study(*SETTINGS)
    launcher = study.start()
    first, second = study.planned()
    with only_processes_held_at([first, second], 7) as processes:
        places = {cluster.node_of(pid): run for run, pid in processes.items()}
        assert places.keys() == {"head", "second"}
        saved = {run: last_saved(run) for run in processes}
        launcher.kill()
        launcher.communicate()
        os.kill(processes[places["head"]], signal.SIGKILL)
        cluster.kill("second")
    code, told = study.launch("--detach")
    assert code == 0 and "0 runs submitted" in told, told
    for run in (first, second):
        wait_for_result(run)
        assert starts(run) == [0, saved[run]]
    causes = {node: [end.cause for end in read_ends(run).all] for node, run in places.items()}
    assert causes == {"head": [Cause.LOST, Cause.DONE], "second": [Cause.NODE_FAILED, Cause.DONE]}
    for run in (first, second):
        assert_same_numbers(train_plan_here(run, study.folder / "reference" / run.name), run)


def test_a_lost_head(cluster: Cluster, make_study: MakeStudy) -> None:
    """Its runs end there; those of other nodes save and leave when they have given it up."""
    study = make_study(*SETTINGS)
    launcher = study.start()
    runs = study.planned()
    with only_processes_held_at(runs, 7) as processes:
        places = {cluster.node_of(pid): run for run, pid in processes.items()}
        saved = last_saved(places["head"])
        cluster.kill("head")
        wait_until(lambda: is_pending(processes[places["second"]], signal.SIGTERM), 90, "request to save")
    _, told = launcher.communicate(timeout=120)
    assert launcher.returncode == 2, told
    assert "the same command continues them" in told.splitlines()[-1] and "Traceback" not in told, told
    wait_until(lambda: not [run for run in runs if training_processes(run)], 60, "end of the processes")
    [end] = read_ends(places["second"]).all
    assert end.cause is Cause.PREEMPTED and end.step >= 7
    assert not read_ends(places["head"]).all

    cluster.kill("second")
    cluster.start("another head", "127.0.0.1", num_cpus=2)
    code, told = study.launch("--detach")
    assert code == 0 and "2 runs submitted" in told, told
    for run in runs:
        wait_for_result(run)
        assert starts(run) == [0, saved if run == places["head"] else end.step]
        assert_same_numbers(train_plan_here(run, study.folder / "reference" / run.name), run)
