"""Launchers that die or meet: every run is trained exactly once."""

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from scaling.launch.backends.slurm import backend as slurm
from scaling.launch.backends.slurm.backend import SlurmBackend
from scaling.launch.backends.slurm.batch import load_batches
from scaling.records.attempts.attempt import latest_number
from scaling.records.attempts.ends import read_ends
from tests.launch.backends.slurm.conftest import StartLab
from tests.launch.backends.slurm.lab import needs_slurm, wait_for_result, wait_until

pytestmark = needs_slurm

FORK = multiprocessing.get_context("fork")


def die_after_sbatch(backend: SlurmBackend, runs: list[Path]) -> None:
    """A launcher that is killed when Slurm has its jobs and it has not noted their number."""
    submit = slurm.submit_array

    def submit_and_die(*arguments: object) -> str:
        submit(*arguments)  # type: ignore[arg-type]
        os.kill(os.getpid(), signal.SIGKILL)
        return ""

    slurm.submit_array = submit_and_die  # type: ignore[assignment]
    backend.submit(runs, 2)


def submit_and_watch(backend: SlurmBackend, runs: list[Path]) -> None:
    backend.submit(runs, 2)
    while True:
        backend.poll(runs[0].parent)
        time.sleep(0.1)


def submit_at_once(backend: SlurmBackend, runs: list[Path], moment: float) -> None:
    time.sleep(max(0.0, moment - time.time()))
    backend.submit(runs, 2)


def test_launchers_that_die_or_meet_train_every_run_exactly_once(
    start_lab: StartLab, make_backend: Callable[..., SlurmBackend], plan_tiny, tmp_path: Path
) -> None:
    runs = [run.run_dir for run in plan_tiny("protocol.steps=4", "grid.seed=[0, 1]", name="once")]
    study = tmp_path / "once"
    lab = start_lab("--nodes", "1", "--cpus", "2")
    backend = make_backend()

    first = FORK.Process(target=die_after_sbatch, args=(backend, runs))
    first.start()
    first.join(60)
    assert first.exitcode == -signal.SIGKILL
    [batch] = load_batches(study)
    assert batch.job_id is None

    second = FORK.Process(target=submit_and_watch, args=(backend, runs))
    second.start()
    wait_until(lambda: load_batches(study)[0].job_id)
    second.kill()
    second.join()

    moment = time.time() + 0.5
    both = [FORK.Process(target=submit_at_once, args=(backend, runs, moment)) for _ in range(2)]
    for launcher in both:
        launcher.start()
    for launcher in both:
        launcher.join(60)
        assert launcher.exitcode == 0

    handles = backend.submit(runs, 2)
    assert [handle.job for handle in handles] == [f"{load_batches(study)[0].job_id}_{index}" for index in range(2)]
    for run in runs:
        wait_for_result(run)
    assert len(load_batches(study)) == 1 and len(lab.states()) == 2
    assert [latest_number(run) for run in runs] == [1, 1]
    assert [len(read_ends(run).all) for run in runs] == [1, 1]


def test_two_launchers_that_start_at_once_submit_one_batch(
    start_lab: StartLab, make_backend: Callable[..., SlurmBackend], tmp_path: Path
) -> None:
    lab = start_lab("--nodes", "1")
    backend = make_backend("sbatch: {begin: now+1hour}\n")
    for number in range(5):
        runs = [tmp_path / f"meet{number}" / name for name in "abc"]
        for run in runs:
            run.mkdir(parents=True)
        moment = time.time() + 0.3
        launchers = [FORK.Process(target=submit_at_once, args=(backend, runs, moment)) for _ in range(3)]
        for launcher in launchers:
            launcher.start()
        for launcher in launchers:
            launcher.join(60)
            assert launcher.exitcode == 0
        assert len(load_batches(tmp_path / f"meet{number}")) == 1
    assert len(lab.states()) == 15


def test_a_batch_that_slurm_never_got_is_submitted_again_after_a_minute(
    start_lab: StartLab,
    make_backend: Callable[..., SlurmBackend],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A launcher that died before sbatch: its batch is looked for, and only then taken for one that never was."""
    start_lab("--nodes", "1")
    backend = make_backend("sbatch: {begin: now+1hour}\n")
    run = tmp_path / "before" / "run"
    run.mkdir(parents=True)
    with monkeypatch.context() as patch:
        patch.setattr(slurm, "submit_array", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            backend.submit([run], None)
    [handle] = backend.submit([run], None)
    assert handle.job is None and backend.poll(run.parent)[run].phase == "unknown"
    [batch] = load_batches(run.parent)
    batch.model_copy(update={"unix_time": batch.unix_time - 61}).save(run.parent)
    [handle] = backend.submit([run], None)
    assert handle.job is not None and backend.poll(run.parent)[run].phase == "queued"
