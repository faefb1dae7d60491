"""A thousand array tasks: submitted, looked at and told in a few commands of Slurm, whose number does not grow."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scaling.launch.backends.slurm.backend import SlurmBackend
from scaling.launch.backends.slurm.batch import load_batches
from scaling.records.reading import sealed_text
from scaling.records.run_dir import RunDir
from scaling.status.command import main as status
from tests.launch.backends.slurm.conftest import StartLab
from tests.launch.backends.slurm.lab import needs_slurm
from tests.support.run_plans import run_plan

pytestmark = needs_slurm


class Commands:
    """Counts the programs that are started while it stands in the place of `subprocess.run`."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self._run = subprocess.run

    def __call__(self, command: list[str], **options: Any) -> Any:
        self.names.append(command[0])
        return self._run(command, **options)

    def taken(self) -> list[str]:
        """Those since the last look."""
        taken, self.names = self.names, []
        return taken


def test_a_thousand_tasks_take_as_many_commands_as_one(
    start_lab: StartLab,
    make_backend: Callable[..., SlurmBackend],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lab = start_lab("--nodes", "1")
    commands = Commands()
    monkeypatch.setattr(subprocess, "run", commands)
    taken = {}
    for count in (1, 1000):
        plans = [run_plan(seed=seed) for seed in range(count)]
        runs = [tmp_path / f"study-{count}" / plan.run_id for plan in plans]
        for run, plan in zip(runs, plans, strict=True):
            run.mkdir(parents=True)
            RunDir(run).plan.write_text(sealed_text(plan))
        study = runs[0].parent
        backend = make_backend("sbatch: {begin: now+1hour}\n", max_parallel=8)
        handles = backend.submit(runs, None)
        taken[count] = [commands.taken()]
        looks = backend.poll(study)
        taken[count].append(commands.taken())
        assert len(handles) == len(looks) == count
        assert {look.phase for look in looks.values()} == {"queued"}
        assert len(load_batches(study)) == 1

        assert status(["--json", str(study)]) == 0
        taken[count].append(commands.taken())
        rows = json.loads(capsys.readouterr().out)
        assert [row["status"] for row in rows] == ["queued"] * count
    assert len(lab.states()) == 1001
    one, thousand = ([len(step) for step in taken[count]] for count in (1, 1000))
    assert one[0] and one[1] and all(many <= few for many, few in zip(thousand, one, strict=True)), taken

    # Taking out half of a waiting array leaves the other half.
    backend.cancel(runs[:500])
    looks = backend.poll(study)
    assert [looks[run].phase for run in runs] == ["ended"] * 500 + ["queued"] * 500


def test_a_study_above_the_largest_array_is_several_that_follow_each_other(
    start_lab: StartLab, make_backend: Callable[..., SlurmBackend], tmp_path: Path
) -> None:
    lab = start_lab("--nodes", "1", "--conf", "MaxArraySize=5")
    runs = [tmp_path / "wide" / f"run{number}" for number in range(10)]
    for run in runs:
        run.mkdir(parents=True)
    backend = make_backend("sbatch: {begin: now+1hour}\n")
    backend.submit(runs, 2)
    assert [len(batch.runs) for batch in load_batches(runs[0].parent)] == [4, 4, 2]
    assert len(lab.states()) == 10
    # With a cap an array waits for the one before it, so that the study as a whole keeps the cap.
    dependencies = lab.run("squeue", "-h", "-o", "%E").splitlines()
    assert sum("afterany" in dependency for dependency in dependencies) == 2
