"""Fine-tuning from a sweep: real runs after real runs, one of them killed, and the record of the pre-training run."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from scaling.records.evaluation import Evaluation
from scaling.records.result import RunResult
from scaling.records.run_dir import RunDir
from scaling.records.run_plan import RunPlan
from scaling.records.state import RunState
from scaling.records.study import read_study

SWEEP = """\
study: fine
data: {{root: {root}, train: train.json, val: val.json}}
protocol: {{kind: constant_steps, steps: 20, batch: 16}}
defaults: {{learning_rate: 2.0e-3, warmup: 10%, validate_every: 50%}}
grid: {{model: [mixer-laptop-32px], fraction: [0.5], seed: [0]}}
evals:
  - kind: finetune
    name: colours
    train: train.json
    test: val.json
    resolution: 64
    steps: 60
    batch: 16
    learning_rates: [0.01, 1.0e+38]
    seeds: [0, 1]
launch: {{local: {{threads: 1}}}}
"""

Command = list[str]


@pytest.fixture(scope="module")
def sweep(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sweep") / "fine.yaml"
    path.write_text(SWEEP.format(root=json.dumps(str(tiny_data))))
    return path


def command(sweep: Path, out: str, *options: str) -> Command:
    return [sys.executable, "-m", "scaling.launch", str(sweep), "--out", str(sweep.parent / out), *options]


def launch(sweep: Path, out: str, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(sweep, out, *options), capture_output=True, text=True, check=False, timeout=900)


@pytest.fixture(scope="module")
def unbroken(sweep: Path) -> Iterator[tuple[Path, str]]:
    """The study's folder after a launch that nothing disturbed, and what that launch told."""
    answer = launch(sweep, "unbroken")
    assert answer.returncode == 0, answer.stderr
    yield sweep.parent / "unbroken" / "fine", answer.stderr


def record_of(study: Path) -> Evaluation:
    (trained,) = [run for run in read_study(study).runs if not run.plan.serves]
    record = Evaluation.load(trained.run_dir, "colours")
    assert record is not None
    return record


def numbers(record: Evaluation) -> list[dict[str, Any]]:
    """Rows without what the clock says."""
    return [{name: value for name, value in row.items() if name != "seconds"} for row in record.rows]


def test_the_record_is_the_mean_of_the_final_runs_and_tells_all_that_was_tried(unbroken: tuple[Path, str]) -> None:
    study, told = unbroken
    runs = {run.plan.run_id: run for run in read_study(study).runs}
    record = record_of(study)
    trials, finals = ([row for row in record.rows if row["role"] == role] for role in ("trial", "final"))
    assert len(runs) == 5 and len(trials) == len(finals) == 2
    assert [(row["learning_rate"], row["taken"], row["diverged"]) for row in trials] == [
        (0.01, True, False),
        (1e38, False, True),
    ]
    assert trials[1]["dev_top1"] is None
    assert "colours of " in told and "rate 0.01 is taken" in told and "1e+38: diverged" in told
    for row in trials[:1]:
        plan, result = runs[row["run_id"]].plan, runs[row["run_id"]].result
        assert result is not None and row["dev_top1"] == result.metrics["upstream/precision_at_1"]
        assert plan.dev is not None and plan.dev.num_samples == row["dev_images"] == 20
        assert plan.subset.num_samples == row["train_images"] == 180
    tops = []
    for row in finals:
        plan, result = runs[row["run_id"]].plan, runs[row["run_id"]].result
        assert result is not None and plan.dev is None and plan.subset.num_samples == 200
        assert plan.val.num_samples == 80 and plan.model.image_size == 64
        assert result.best_step == result.steps == 60, "the weights of the last step are scored"
        tops.append(result.metrics["upstream/precision_at_1"])
    assert record.metrics["colours/top1"] == sum(tops) / 2
    assert tops[0] > 0.5, "the colours are told apart, chance is 0.25"


def test_fine_tuning_runs_start_from_the_kept_weights_and_are_no_points_of_figures(
    unbroken: tuple[Path, str],
) -> None:
    study, _ = unbroken
    (trained,) = [run for run in read_study(study).runs if not run.plan.serves]
    assert trained.result is not None and trained.standing.is_finished
    for run in read_study(study).runs:
        if run is not trained and run.plan.serves:
            assert run.plan.start is not None and run.plan.start.sha256 == trained.result.weights_sha256
            assert run.plan.start.run_id == trained.plan.run_id and run.in_plan
    runs = pd.read_csv(study / "report" / "runs.csv")
    assert list(runs["run_id"]) == [trained.plan.run_id]
    assert runs["colours/top1"][0] == record_of(study).metrics["colours/top1"]
    left_out = pd.read_csv(study / "report" / "excluded.csv")
    assert len(left_out) == 4 and left_out["reason"].str.contains("colours of").all()


def test_a_second_launch_changes_nothing(sweep: Path, unbroken: tuple[Path, str]) -> None:
    study, _ = unbroken
    before = {
        path: path.stat().st_mtime_ns for path in study.glob("*/**/*") if path.is_file() and "report" not in path.parts
    }
    again = launch(sweep, "unbroken", "--no-report")
    assert again.returncode == 0, again.stderr
    assert {path: path.stat().st_mtime_ns for path in before} == before
    retried = launch(sweep, "unbroken", "--no-report", "--retry-failed")
    assert retried.returncode == 0, retried.stderr
    assert {path: path.stat().st_mtime_ns for path in before} == before, "a rate that diverged has answered"


def test_a_damaged_result_of_a_trial_takes_no_other_rate_and_is_named(sweep: Path, unbroken: tuple[Path, str]) -> None:
    study, _ = unbroken
    trial = next(run.run_dir for run in read_study(study).runs if run.plan.serves and run.result is not None)
    path = RunDir(trial).result
    whole, record = path.read_bytes(), record_of(study)
    try:
        path.write_bytes(whole[: len(whole) // 2])
        answer = launch(sweep, "unbroken", "--no-report")
        assert answer.returncode == 1
        assert f"{trial.name} has no result ({path}" in answer.stderr and "remove the file and launch" in answer.stderr
    finally:
        path.write_bytes(whole)
    assert record_of(study) == record


def test_a_damaged_record_is_made_again_from_the_runs_that_it_follows_from(
    sweep: Path, unbroken: tuple[Path, str]
) -> None:
    study, _ = unbroken
    record = record_of(study)
    path = RunDir(study / record.run_id).evaluation("colours")
    whole = path.read_bytes()
    for damaged in (whole[:-100], whole.replace(b'"colours/top1": ', b'"colours/top1": 0'), b"[]"):
        path.write_bytes(damaged)
        answer = launch(sweep, "unbroken", "--no-report")
        assert answer.returncode == 0 and f"{path}: " in answer.stderr and "computed again" in answer.stderr
        again = record_of(study)
        assert again.model_copy(update={"unix_time": record.unix_time}) == record


def test_killed_during_a_trial_and_during_a_final_run_the_numbers_are_the_same(
    sweep: Path, unbroken: tuple[Path, str]
) -> None:
    """`kill -9` of the run and of the launcher; the next launch goes on from the checkpoint."""
    study = sweep.parent / "killed" / "fine"
    for told in ("rate0.01", "seed1"):
        launcher = subprocess.Popen(
            command(sweep, "killed", "--no-report"), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, text=True
        )
        deadline = time.monotonic() + 600
        while not (saved := list(study.glob(f"*{told}-*/checkpoints/step_*/COMPLETE"))):
            assert time.monotonic() < deadline and launcher.poll() is None
            time.sleep(0.005)
        run_dir = saved[0].parents[2]
        os.kill(RunState.load(run_dir).pid, signal.SIGKILL)
        os.kill(launcher.pid, signal.SIGKILL)
        launcher.wait()
        assert RunResult.load(run_dir) is None, "it was killed on the way"
    last = launch(sweep, "killed", "--no-report")
    assert last.returncode == 0, last.stderr
    assert numbers(record_of(study)) == numbers(record_of(unbroken[0]))
    assert record_of(study).metrics == record_of(unbroken[0]).metrics
    resumed = [run for run in read_study(study).runs if run.plan.serves and run.state.resumed_step > 0]
    assert len(resumed) >= 1
    for run in read_study(study).runs:
        if run.result is not None:
            other = RunResult.load(unbroken[0] / run.plan.run_id)
            assert other is not None and other.weights_sha256 == run.result.weights_sha256


def test_the_dry_run_tells_the_price(sweep: Path) -> None:
    """Two rates on 180 images and two seeds on 200, in FLOPs, before anything is trained."""
    answer = launch(sweep, "nowhere", "--dry-run")
    assert answer.returncode == 0, answer.stderr
    assert "colours: 4 further runs after 1 of these (60 steps of batch 16 at 64 px)" in answer.stdout
    (run,) = json.loads(launch(sweep, "nowhere", "--dry-run", "--json").stdout)
    (follows,) = run["follow_ups"]
    plan = RunPlan.model_validate(run["plan"])
    assert follows["runs"] == 4
    # Four times the pixels cost a Mixer more than four times as much: its token mixing grows with their square.
    per_image = follows["train_flops"] / (4 * 60 * 16)
    assert per_image > 4 * plan.model.flops_train_per_image
