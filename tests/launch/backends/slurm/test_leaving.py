"""A launcher that is asked to leave while its jobs are on a Slurm: on a terminal, and without one."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

from scaling.records.attempts.causes import Cause
from scaling.records.attempts.ends import read_ends
from scaling.records.ownership.stop_request import requested_stop
from scaling.records.run_dir import RunDir, StudyDir
from scaling.records.scheduler_word import SchedulerWord
from scaling.records.standing import find_standing
from scaling.records.state import Status
from tests.launch.backends.slurm.conftest import StartLab
from tests.launch.backends.slurm.lab import last_step, needs_slurm, training_processes, wait_until
from tests.support.terminal import CTRL_C, terminal
from tests.support.tiny_study import TINY_SWEEP

pytestmark = needs_slurm

SECTION = "launch: {backend: slurm, slurm: {poll: 1s, time: 10m, max_parallel: 1}}\n"


def last_query(study: Path) -> float:
    """When Slurm last said something of the study's runs."""
    word = SchedulerWord.load(study)
    return min((run.unix_time for run in word.runs.values()), default=0.0) if word is not None else 0.0


def test_ctrl_c_asks_and_only_a_yes_stops_the_jobs(start_lab: StartLab, tiny_data: Path, tmp_path: Path) -> None:
    """One run trains, one waits. SIGTERM, Ctrl-C without a terminal and a second Ctrl-C leave both; `s` stops both."""
    lab = start_lab("--nodes", "1", "--cpus", "1")
    sweep, study = tmp_path / "tiny.yaml", tmp_path / "runs" / "tiny"
    sweep.write_text(TINY_SWEEP.format(root=json.dumps(str(tiny_data))) + SECTION)
    changes = ("--set", "protocol.steps=100000", "--set", "defaults.checkpoint_every=50%", "--set", "grid.seed=[0,1]")
    command = [sys.executable, "-m", "scaling.launch", str(sweep), *changes, "--out", str(study.parent)]

    for number in (signal.SIGINT, signal.SIGTERM):
        begun = time.time()
        alone = subprocess.Popen(command, env=lab.environment, cwd=tmp_path, stdin=subprocess.DEVNULL, stderr=-1)
        # It watches: it has asked Slurm.
        wait_until(lambda: study.exists() and last_query(study) > begun)  # noqa: B023
        alone.send_signal(number)
        said = alone.communicate(timeout=60)[1]
        assert b"2 runs left on Slurm" in said, (number, alone.returncode, said)
        assert alone.returncode == 130
    runs = [run.path for run in StudyDir(study).run_dirs()]
    jobs = lab.states()
    assert len(jobs) == 2

    with terminal(command, lab.environment, tmp_path) as shell:
        shell.wait_for("0 of 2 runs ended")
        shell.type(CTRL_C)
        shell.wait_for("[l/s]")
        shell.type(CTRL_C)
        assert shell.exit_code() == 130
    assert "2 runs on Slurm" in shell.text and "2 runs left on Slurm" in shell.text
    assert lab.states().keys() == jobs.keys() and [requested_stop(run) for run in runs] == [None, None]

    wait_until(lambda: max(last_step(run) for run in runs) >= 3)
    trains, waits = sorted(runs, key=last_step, reverse=True)
    with terminal(command, lab.environment, tmp_path) as shell:
        shell.wait_for("0 of 2 runs ended")
        shell.type(CTRL_C)
        shell.wait_for("[l/s]")
        shell.type("what?\n")
        shell.wait_for("l or s?")
        shell.type("s\n")
        assert shell.exit_code() == 130
    assert "2 runs asked to save a checkpoint and stop" in shell.text
    wait_until(lambda: not {"RUNNING", "COMPLETING", "PENDING"} & set(lab.states().values()))
    assert training_processes(trains) == [] and read_ends(waits).all == ()
    [end] = read_ends(trains).all
    assert end.cause is Cause.CANCELLED and list(RunDir(trains).checkpoints.glob(f"step_{end.step:08d}*/COMPLETE"))
    assert {find_standing(run).status for run in runs} == {Status.CANCELLED}
