"""A thousand array tasks: submitted, looked at and told in seconds."""

import json
import time
from collections.abc import Callable
from pathlib import Path

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


def test_a_thousand_tasks_are_quick(
    start_lab: StartLab, make_backend: Callable[..., SlurmBackend], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lab = start_lab("--nodes", "1")
    plans = [run_plan(seed=seed) for seed in range(1000)]
    runs = [tmp_path / "thousand" / plan.run_id for plan in plans]
    for run, plan in zip(runs, plans, strict=True):
        run.mkdir(parents=True)
        RunDir(run).plan.write_text(sealed_text(plan))
    backend = make_backend("sbatch: {begin: now+1hour}\n", max_parallel=8)
    started = time.perf_counter()
    handles = backend.submit(runs, None)
    submitted = time.perf_counter()
    looks = backend.poll(runs[0].parent)
    polled = time.perf_counter()
    assert len(handles) == len(looks) == len(lab.states()) == 1000
    assert {look.phase for look in looks.values()} == {"queued"}
    assert submitted - started < 5 and polled - submitted < 1
    assert len(load_batches(runs[0].parent)) == 1

    # What other tests on the machine take is not counted.
    started = time.process_time()
    assert status(["--json", str(runs[0].parent)]) == 0
    assert time.process_time() - started < 1
    rows = json.loads(capsys.readouterr().out)
    assert [row["status"] for row in rows] == ["queued"] * 1000

    # Taking out half of a waiting array leaves the other half.
    backend.cancel(runs[:500])
    looks = backend.poll(runs[0].parent)
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
