"""Nodes whose disk is full, or that do not see a run directory: named, and the other runs are trained."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from scaling.launch.backends.slurm.backend import SlurmBackend
from scaling.records.attempts.ends import read_ends
from scaling.records.run_dir import RunDir
from scaling.records.standing import find_standing
from scaling.records.state import Status
from tests.launch.backends.slurm.conftest import StartLab
from tests.launch.backends.slurm.lab import Lab, needs_slurm, wait_for_result, wait_until

pytestmark = [
    needs_slurm,
    pytest.mark.skipif(
        os.geteuid() != 0 or shutil.which("unshare") is None,
        reason="a node with another view of the disk needs root and unshare",
    ),
]


def node_without(folder: Path, tmp_path: Path, options: str) -> str:
    """A profile whose first task starts training with another file system at `folder`, as on a node of its own."""
    script = tmp_path / "other-view"
    script.write_text(
        '#!/bin/sh\nif [ "$SLURM_ARRAY_TASK_ID" = 0 ]; then\n'
        f'  exec unshare --mount sh -c \'mount -t tmpfs {options} tmpfs {folder} && exec "$@"\' sh "$@"\n'
        'fi\nexec "$@"\n'
    )
    script.chmod(0o755)
    return f"container: {script}\n"


def all_ended(lab: Lab) -> bool:
    return not {"RUNNING", "COMPLETING", "PENDING"} & set(lab.states().values())


def test_a_full_disk_is_named_and_the_other_run_is_trained(
    start_lab: StartLab, make_backend: Callable[..., SlurmBackend], plan_tiny, tmp_path: Path
) -> None:
    runs = [run.run_dir for run in plan_tiny("protocol.steps=4", "grid.seed=[0, 1]", name="full")]
    lab = start_lab("--nodes", "1", "--cpus", "2")
    RunDir(runs[0]).checkpoints.mkdir()
    backend = make_backend(node_without(RunDir(runs[0]).checkpoints, tmp_path, "-o size=64k"))
    backend.submit(runs, None)
    wait_for_result(runs[1])
    wait_until(lambda: all_ended(lab))
    standing = find_standing(runs[0])
    assert standing.status is Status.FAILED
    assert "No space left on device" in standing.reason or "disk" in standing.reason, standing.reason
    looks = backend.poll(runs[0].parent)
    assert [looks[run].phase for run in runs] == ["ended", "ended"]


def test_a_run_directory_that_a_node_does_not_see_is_named(
    start_lab: StartLab, make_backend: Callable[..., SlurmBackend], plan_tiny, tmp_path: Path
) -> None:
    runs = [run.run_dir for run in plan_tiny("protocol.steps=4", "grid.seed=[0, 1]", name="hidden")]
    start_lab("--nodes", "1", "--cpus", "2")
    backend = make_backend(node_without(runs[0], tmp_path, ""), retries=0)
    backend.submit(runs, None)
    wait_for_result(runs[1])
    wait_until(lambda: backend.poll(runs[0].parent)[runs[0]].phase == "ended")
    assert [end.code for end in read_ends(runs[0]).all] == [6]
    standing = find_standing(runs[0])
    assert standing.status is Status.FAILED
    assert "does not see" in standing.reason and "storage that all nodes share" in standing.reason


def test_a_container_that_is_not_there_is_named(
    start_lab: StartLab, make_backend: Callable[..., SlurmBackend], plan_tiny
) -> None:
    [planned] = plan_tiny("protocol.steps=4", name="contained")
    start_lab("--nodes", "1")
    backend = make_backend("container: nosuchprogram exec\n")
    backend.submit([planned.run_dir], None)
    wait_until(lambda: backend.poll(planned.run_dir.parent)[planned.run_dir].phase == "ended")
    standing = find_standing(planned.run_dir)
    assert standing.status is Status.FAILED and len(read_ends(planned.run_dir).all) == 1
    assert "training did not start" in standing.reason and "nosuchprogram: No such file" in standing.reason
    assert "container, python, modules and setup of the profile" in standing.reason
