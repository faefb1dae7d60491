"""`scaling.status` of a study on a Slurm: from its folders alone, with what Slurm said last and when."""

import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scaling.launch.backends.slurm.backend import SlurmBackend
from scaling.records.attempts.ends import read_ends
from scaling.status.command import main
from tests.launch.backends.slurm.conftest import StartLab
from tests.launch.backends.slurm.lab import held_at, is_pending, needs_slurm, training_processes, wait_until

pytestmark = needs_slurm


class Status:
    """The command, asked where no command of Slurm is found."""

    def __init__(self, study: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._study, self._monkeypatch, self._capsys = study, monkeypatch, capsys

    def text(self, *options: str) -> str:
        with self._monkeypatch.context() as patch:
            patch.setenv("PATH", "")
            assert main([str(self._study), *options]) == 0
        return self._capsys.readouterr().out

    def row(self, run: Path) -> dict[str, Any]:
        rows: list[dict[str, Any]] = json.loads(self.text("--json"))
        return next(row for row in rows if row["run_id"] == run.name)


def test_status_tells_why_runs_wait_where_they_run_and_that_they_are_lost(
    start_lab: StartLab,
    make_backend: Callable[..., SlurmBackend],
    plan_tiny,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    options = ("protocol.steps=100000", "defaults.checkpoint_every=50%", "defaults.log_every=1")
    runs = [run.run_dir for run in plan_tiny(*options, "grid.seed=[0, 1, 2]", name="waits")]
    trains, waits, held = runs
    study = tmp_path / "waits"
    status = Status(study, monkeypatch, capsys)
    lab = start_lab("--nodes", "1", "--cpus", "1")
    make_backend("sbatch: {hold: true}\n").submit([held], None)
    backend = make_backend()
    [first] = backend.submit([trains], None)
    assert status.row(trains)["status"] in ("queued", "starting")
    wait_until(lambda: training_processes(trains))
    backend.submit([waits], None)

    def estimated() -> bool:
        backend.poll(study)
        return "waits for free nodes (Resources), expected to start at 2" in status.row(waits)["error"]

    wait_until(estimated, 60, "Slurm's reason and its estimate of a start")
    assert status.row(waits)["status"] == "queued"
    row = status.row(held)
    assert row["status"] == "queued" and "held by its user; release it with scontrol release" in row["error"]
    said = row["scheduler"]["age_seconds"]
    time.sleep(1.2)
    assert status.row(held)["scheduler"]["age_seconds"] >= said + 1
    assert "Slurm said so" in status.text()

    # Nobody watches any more: the job itself tells that it is queued again, and what the others wait for.
    with held_at(trains, 3) as [process]:
        row = status.row(trains)
        assert row["status"] == "running" and row["job"] == f"{first.job}/0" and row["requeues"] == {}
        lab.run("scancel", "--signal=USR1", first.job or "", check=False)
        wait_until(lambda: is_pending(process, signal.SIGUSR1))
    wait_until(lambda: status.row(trains)["status"] == "queued", interval=0.02)
    row = status.row(trains)
    assert row["requeues"] == {"preempted": 1} and f"{first.job} was queued again: was asked to leave" in row["error"]
    assert "queued again 1 time (1 preempted)" in status.text()
    assert status.row(held)["scheduler"]["age_seconds"] <= status.row(trains)["scheduler"]["age_seconds"] + 0.1

    # A controller that does not answer, and then one that has forgotten everything.
    lab.run("scontrol", "hold", first.job or "", check=False)
    os.kill(lab.daemon("slurmctld"), signal.SIGKILL)
    backend.poll(study)
    assert status.row(held)["status"] == "queued" and "Slurm was asked in vain, first 0 s ago" in status.text()
    shutil.rmtree(lab.folder / "state")
    (lab.folder / "state").mkdir()
    lab.start_missing()
    wait_until(lambda: lab.states() == {})
    wait_until(lambda: not training_processes(trains) and not training_processes(waits), 60)
    assert read_ends(held).all == ()
    backend.poll(study)
    row = status.row(held)
    assert row["status"] == "lost" and "Slurm has no record of it any more" in row["error"]
