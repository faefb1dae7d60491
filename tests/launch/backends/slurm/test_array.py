"""A study as a job array: never more at once than the cap, and the numbers of the local machine."""

import shutil
import time
from collections.abc import Callable
from pathlib import Path

from scaling.launch.backends.slurm.backend import SlurmBackend
from scaling.records.attempts.attempt import load_attempt
from scaling.records.attempts.ends import read_ends
from scaling.records.run_dir import RunDir
from tests.launch.backends.slurm.conftest import StartLab
from tests.launch.backends.slurm.lab import assert_same_numbers, needs_slurm, train_here

pytestmark = needs_slurm


def test_six_runs_two_at_a_time_give_the_numbers_of_this_machine(
    start_lab: StartLab, make_backend: Callable[..., SlurmBackend], plan_tiny, tmp_path: Path
) -> None:
    options = ("grid.seed=[0, 1, 2]", "grid.fraction=[0.5, 1.0]", "protocol.steps=6", "defaults.validate_every=3")
    runs = [run.run_dir for run in plan_tiny(*options, name="six")]
    planned = shutil.copytree(tmp_path / "six", tmp_path / "planned")
    lab = start_lab("--nodes", "2")
    backend = make_backend()
    handles = backend.submit(runs, 2)
    assert [handle.run_dir for handle in handles] == runs
    most = 0
    while any(look.phase in ("queued", "running", "unknown") for look in backend.poll(tmp_path / "six").values()):
        most = max(most, list(lab.states().values()).count("RUNNING"))
        time.sleep(0.2)
    assert most == 2
    for run in runs:
        assert RunDir(run).result.exists(), (run / "log.txt").read_text()
    spans = [(load_attempt(run, 1).unix_time, read_ends(run).all[0].unix_time) for run in runs]
    assert max(sum(start <= moment < end for start, end in spans) for moment, _ in spans) <= 2

    for run in runs:
        assert_same_numbers(train_here(planned / run.name, tmp_path / "here" / run.name), run)
