"""A whole study from the command line on this machine: real processes, real training, real report."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from scaling.records.events import read_events
from scaling.records.state import RunState

SWEEP = """\
study: small
data: {{root: {root}, train: train.json, val: val.json}}
protocol: {{kind: constant_steps, steps: 20, batch: 16}}
defaults: {{learning_rate: 2.0e-3, warmup: 10%, checkpoint_every: 2, validate_every: 10}}
grid: {{model: [mixer-laptop-32px, vit-laptop-32px], fraction: [0.1, 1.0], seed: [0]}}
launch: {{local: {{threads: 1}}}}
evals:
  - {{kind: fewshot, support: train.json, test: val.json, shots: [2]}}
  - {{kind: throughput, batch_sizes: [8], repeats: 2, seconds: 0.01}}
"""


@pytest.fixture
def sweep(tiny_data: Path, tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(SWEEP.format(root=json.dumps(str(tiny_data))))
    return path


def command(sweep: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "scaling.launch", str(sweep), "--out", str(sweep.parent / "runs"), *options]


def launch(sweep: Path, *options: str, draws: bool = False) -> subprocess.CompletedProcess[str]:
    """The launcher when it has ended; `draws`: with its report."""
    words = command(sweep, *([] if draws else ["--no-report"]), *options)
    return subprocess.run(words, capture_output=True, text=True, check=False, timeout=300)


def test_launch_repeat_and_repair_a_study(sweep: Path) -> None:
    first = launch(sweep, draws=True)
    assert first.returncode == 0, first.stderr
    study = sweep.parent / "runs" / "small"
    runs = sorted(path.parent for path in study.glob("*/run.json"))
    assert len(runs) == 4
    for name in ("index.html", "accuracy_vs_size.png", "accuracy_vs_size.svg", "accuracy_vs_size.csv"):
        assert (study / "report" / name).stat().st_size > 0
    assert "Mixer" in first.stdout and "ViT" in first.stdout
    assert "Warning" not in first.stderr and "Traceback" not in first.stderr
    logs = {run.name: (run / "log.txt").read_text() for run in runs}
    assert not any("arning" in log for log in logs.values())

    before = {path: path.stat().st_mtime_ns for run in runs for path in run.rglob("*") if path.is_file()}
    second = launch(sweep)
    assert second.returncode == 0
    assert "nothing to train" in second.stderr
    assert {path: path.stat().st_mtime_ns for path in before} == before

    subprocess.run(["rm", "-r", str(runs[1])], check=True)
    third = launch(sweep)
    assert third.returncode == 0
    assert "3 done already, 1 to train" in third.stderr
    changed = {path.relative_to(study).parts[0] for path, age in before.items() if path.stat().st_mtime_ns != age}
    assert changed == {runs[1].name}


def test_a_killed_launcher_loses_nothing(sweep: Path) -> None:
    """`kill -9` of the launcher: its runs save and leave by themselves, and the next launch continues them."""
    settings = ("protocol.steps=500", "grid.fraction=[1.0]", "defaults.log_every=50", "defaults.checkpoint_every=50%")
    options = [part for setting in settings for part in ("--set", setting)]
    launcher, study = launch_and_wait_for_steps(sweep, *options)
    os.kill(launcher.pid, signal.SIGKILL)
    launcher.communicate()
    deadline = time.monotonic() + 120
    while any(state.status == "running" for state in states(study)):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    again = launch(sweep, *options)
    assert again.returncode == 0, again.stderr
    assert "to continue" in again.stderr
    resumed = [event for path in study.glob("*/events.jsonl") for event in read_events(path).events]
    assert any(event.kind == "start" and event.step > 0 for event in resumed)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_launcher_that_is_asked_to_leave_waits_until_its_runs_have_saved(number: int, sweep: Path) -> None:
    settings = ("protocol.steps=100k", "grid.model=[mixer-laptop-32px]", "defaults.checkpoint_every=100%")
    options = [part for setting in settings for part in ("--set", setting)]
    launcher, study = launch_and_wait_for_steps(sweep, *options, "--set", "defaults.log_every=5steps")
    launcher.send_signal(number)
    _, told = launcher.communicate(timeout=120)
    assert launcher.returncode == 130
    assert f"stopping ({signal.Signals(number).name})" in told
    left = [state for state in states(study) if state.step]
    assert left and all(state.status == "preempted" for state in left)
    assert len(list(study.glob("*/checkpoints/step_*/COMPLETE"))) == len(left)


def launch_and_wait_for_steps(sweep: Path, *options: str) -> tuple[subprocess.Popen[str], Path]:
    """A launcher whose runs have begun, and its study's folder."""
    launcher = subprocess.Popen(command(sweep, *options), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    study = sweep.parent / "runs" / "small"
    deadline = time.monotonic() + 120
    while not any(state.step > 4 for state in states(study)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return launcher, study


def states(study: Path) -> list[RunState]:
    return [RunState.load(path.parent) for path in study.glob("*/run.json")]


def test_dry_run_starts_nothing_and_prints_every_run(sweep: Path) -> None:
    answer = launch(sweep, "--dry-run")
    assert answer.returncode == 0
    assert not (sweep.parent / "runs").exists()
    assert answer.stdout.count("pending") == 4
    assert "FLOP" in answer.stdout and "device time unknown" in answer.stdout
    plan = json.loads(launch(sweep, "--dry-run", "--json").stdout)
    assert [run["plan"]["subset"]["num_samples"] for run in plan] == [20, 200, 20, 200]


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ("grid.model=[mixer-laptop-23px]", ["grid.model[0]", "did you mean 'mixer-laptop-32px'"]),
        ("grid.fraction=[0]", ["grid.fraction[0]", "greater than 0"]),
        ("grid.fraction=[1.5]", ["grid.fraction[0]", "at most 1"]),
        ("grid.fraction=[]", ["grid.fraction", "empty"]),
        ("grid={}", ["grid is empty"]),
        ("grid.fraction=[0.1, 0.1]", ["are the same run"]),
        ("data.train=absent.json", ["data.train", "absent.json", "scaling.data index"]),
        ("defaults.loss=sofmax", ["defaults.loss", "'softmax'"]),
        ("protocol.warmup=3", ["protocol.warmup", "unknown key"]),
        ("launch.backend=slrum", ["launch.backend", "did you mean 'slurm'"]),
        ("launch.devices_per_run=9999", ["devices_per_run"]),
        ("evals.0.shots=[0]", ["evals[0].shots", "greater than 0"]),
        ("evals.0.kind=few_shot", ["evals[0].kind", "did you mean 'fewshot'"]),
        ("evals.0.shot=[5]", ["evals[0].shot", "did you mean 'shots'"]),
        ("defaults.warmup=100%", ["defaults.warmup", "smaller share"]),
        ("defaults.learning_rate=.inf", ["defaults.learning_rate", "finite"]),
        ("defaults.zero_stage=true", ["defaults.zero_stage", "not a switch"]),
        ("defaults.end_learning_rate=1", ["defaults.end_learning_rate", "above the peak"]),
        ("defaults.validate_every=0", ["defaults.validate_every", "above zero"]),
        ("protocol.steps=0", ["protocol.steps", "at least one step"]),
        ("protocol={kind: constant_epochs, epochs: .inf, batch: 16}", ["protocol.epochs", "finite"]),
        ("defaults.micro_batch=5", ["micro_batch", "1, 2, 4, 8, 16"]),
        ("defaults.model_options={gelo: tanh}", ["gelo"]),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(sweep: Path, option: str, expected: list[str]) -> None:
    answer = launch(sweep, "--dry-run", "--set", option)
    assert answer.returncode == 2, answer.stderr
    assert answer.stdout == ""
    told = [line for line in answer.stderr.splitlines() if "cannot be compared" not in line]
    assert len(told) == 1 and told[0].startswith("error: "), answer.stderr
    for part in expected:
        assert part in answer.stderr


def test_status_tells_where_every_run_stands(sweep: Path) -> None:
    assert launch(sweep, "--set", "protocol.steps=4", "--set", "grid.model=[mixer-laptop-32px]").returncode == 0
    study = sweep.parent / "runs" / "small"
    answer = subprocess.run(
        [sys.executable, "-m", "scaling.status", str(study)], capture_output=True, text=True, check=False
    )
    assert answer.returncode == 0
    assert "2 runs: 2 done" in answer.stdout
    rows = json.loads(
        subprocess.run(
            [sys.executable, "-m", "scaling.status", str(study), "--json"], capture_output=True, text=True, check=True
        ).stdout
    )
    assert [row["step"] for row in rows] == [4, 4]
    missing = subprocess.run(
        [sys.executable, "-m", "scaling.status", "/nowhere"], capture_output=True, text=True, check=False
    )
    assert missing.returncode == 2 and "does not exist" in missing.stderr


SLOW = (
    *("protocol.steps=500", "grid.model=[mixer-laptop-32px]"),
    *("defaults.log_every=50", "defaults.checkpoint_every=50%"),
)
LONG = tuple(part for setting in SLOW for part in ("--set", setting))


def test_a_launcher_started_right_after_a_killed_one_takes_its_runs_over(sweep: Path) -> None:
    """Runs that are still alive then are shown, waited for while they save, and continued."""
    launcher, study = launch_and_wait_for_steps(sweep, *LONG)
    os.kill(launcher.pid, signal.SIGKILL)
    again = launch(sweep, *LONG)
    launcher.communicate()
    assert again.returncode == 0, again.stderr
    # A run may have saved and left while the second launcher planned.
    assert "running already" in again.stderr or "to continue" in again.stderr
    assert [state.status for state in states(study)] == ["done"] * 2
    resumed = [event for path in study.glob("*/events.jsonl") for event in read_events(path).events]
    assert any(event.kind == "start" and event.step > 0 for event in resumed)


def test_two_launchers_train_each_run_once_and_both_end_well(sweep: Path) -> None:
    options = ("--set", "protocol.steps=60")
    both = [
        subprocess.Popen(
            command(sweep, "--no-report", *options), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
        )
        for _ in range(2)
    ]
    told = [launcher.communicate(timeout=300)[1] for launcher in both]
    assert [launcher.returncode for launcher in both] == [0, 0], told
    study = sweep.parent / "runs" / "small"
    assert [state.status for state in states(study)] == ["done"] * 4
    for path in study.glob("*/events.jsonl"):
        assert [event.kind for event in read_events(path).events].count("start") == 1


def test_detached_runs_continue_and_one_of_them_is_cancelled(sweep: Path) -> None:
    """With one run at a time, the second waits in the keeper's queue; the first is cancelled and stays so."""
    options = (*LONG, "--set", "protocol.steps=1000", "--max-parallel", "1")
    answer = launch(sweep, *options, "--detach")
    assert answer.returncode == 0 and "2 runs submitted" in answer.stderr, answer.stderr
    study = sweep.parent / "runs" / "small"
    deadline = time.monotonic() + 280
    while not any(state.step > 4 for state in states(study)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    (first,) = [path.parent for path in study.glob("*/state.json")]
    stopped = launch(sweep, *options, "--cancel", first.name)
    assert stopped.returncode == 0 and f"{first.name}: asked to stop" in stopped.stderr
    while not list(study.glob("*/result.json")):
        assert time.monotonic() < deadline, (study / "launch.log").read_text()
        time.sleep(0.1)
    while list((study / "jobs").glob("*.json")):
        assert time.monotonic() < deadline, (study / "launch.log").read_text()
        time.sleep(0.1)
    assert sorted(state.status for state in states(study)) == ["cancelled", "done"]
    assert list(first.glob("checkpoints/step_*/COMPLETE"))
    ended = launch(sweep, *options)
    assert ended.returncode == 1 and "cancelled (start them again with --retry-failed)" in ended.stderr
    assert launch(sweep, *options, "--retry-failed").returncode == 0
