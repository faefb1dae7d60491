"""Throughput apart from training: the search of the batch, what disturbs a measurement, and rows that are kept."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from scaling.bench.throughput import surroundings
from scaling.bench.throughput.measure import time_passes
from scaling.bench.throughput.search import LEAST_GAIN, PATIENCE, search_batch
from scaling.bench.throughput.surroundings import Surroundings, busy_seconds, gpu_processes
from scaling.records.scores.throughput import read_rows

MODEL = "mixer-laptop-32px"

QUICK = ("--largest-batch", "32", "--seconds", "0.02", "--repeats", "3")


def bench(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "scaling.bench", "inference", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_search_doubles_until_two_sizes_gain_nothing() -> None:
    rates = {32: 100.0, 64: 150.0, 128: 149.0, 256: 160.0, 512: 161.0, 1024: 163.0, 2048: 900.0}
    search = search_batch(rates.get, 32, 8192)
    # 128 gains nothing, 256 does again; 512 and 1,024 gain less than 2 % over the best before them.
    assert [batch for batch, _ in search.tried] == [32, 64, 128, 256, 512, 1024]
    assert search.best == 1024 and search.end == "no gain up to batch 1024"
    assert LEAST_GAIN > 161 / 160 - 1 and PATIENCE == 2


@pytest.mark.parametrize(
    ("largest", "room", "tried", "end"),
    [
        (256, 8192, [32, 64, 128, 256], "batch 256 is the largest"),
        (300, 8192, [32, 64, 128, 256], "batch 256 is the largest"),
        (8192, 100, [32, 64], "memory ends below batch 128"),
        (8192, 16, [], "memory ends below batch 32"),
    ],
)
def test_the_search_ends_with_memory_or_with_the_largest_batch(
    largest: int, room: int, tried: list[int], end: str
) -> None:
    search = search_batch(lambda batch: float(batch) if batch <= room else None, 32, largest)
    assert [batch for batch, _ in search.tried] == tried
    assert end in search.end
    assert not tried or search.best == tried[-1]


def test_a_rival_on_the_same_core_is_told_and_counted() -> None:
    core = min(os.sched_getaffinity(0))
    loop = f"import os\nos.sched_setaffinity(0, [{core}])\nprint(flush=True)\nwhile True: pass"
    rival = subprocess.Popen([sys.executable, "-c", loop], stdout=subprocess.PIPE)
    try:
        assert rival.stdout is not None
        rival.stdout.readline()
        around = Surroundings([core])
        with around.watching():
            time.sleep(0.5)
        (told, *_) = around.disturbances(on_gpu=False)
    finally:
        rival.kill()
        rival.communicate()
    assert told.startswith("other processes took ") and told.endswith(" of its 1 core")
    # This process slept, so the core was the rival's, or others', all of the time.
    assert 0.8 < float(told.split()[3]) < 1.1


def test_own_work_is_no_disturbance(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the kernel's count replaced by one of this process alone, as on a quiet machine."""
    monkeypatch.setattr(surroundings, "busy_seconds", lambda: {0: time.process_time(), 1: 0.0})
    around = Surroundings([0])
    with around.watching():
        end = time.process_time() + 0.1
        while time.process_time() < end:
            pass
    assert around.disturbances(on_gpu=False) == ()


def test_the_kernels_count_agrees_with_a_process_that_works() -> None:
    before, own = sum(busy_seconds().values()), time.process_time()
    while time.process_time() < own + 0.2:
        pass
    assert sum(busy_seconds().values()) - before > 0.15
    assert busy_seconds(Path("/nowhere")) == {}


def fake_nvidia_smi(folder: Path, pids: str, code: int = 0) -> None:
    folder.mkdir(exist_ok=True)
    tool = folder / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\nprintf '{pids}'\nexit {code}\n")
    tool.chmod(0o755)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("", "17\\n", ()),
        ("4\\n", "4\\n17\\n", ("1 other process used the GPU",)),
        ("", "17\\n18\\n19\\n", ("2 other processes used the GPU",)),
        ("", "[Insufficient Permissions]\\n", ("nobody could tell whether other processes used the GPU",)),
    ],
)
def test_other_processes_on_the_gpu_are_counted_by_the_drivers_tool(
    before: str, after: str, expected: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    monkeypatch.setattr(surroundings, "busy_seconds", lambda: {0: 0.0})
    fake_nvidia_smi(tmp_path / "bin", before)
    around = Surroundings([0], "GPU-1")
    with around.watching():
        fake_nvidia_smi(tmp_path / "bin", after)
    assert around.disturbances(on_gpu=True) == expected
    fake_nvidia_smi(tmp_path / "bin", "", code=9)
    assert gpu_processes("GPU-1") is None


def test_a_gpu_is_timed_between_marks_in_its_own_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    """The device works behind the host's back: what counts is its time, after all passes are done."""
    queue: list[str] = []

    class Mark:
        def __init__(self, enable_timing: bool) -> None:
            assert enable_timing

        def record(self) -> None:
            queue.append("mark")

        def synchronize(self) -> None:
            queue.append("wait")

        def elapsed_time(self, other: Any) -> float:
            assert queue == ["idle", "mark", "pass", "pass", "pass", "mark", "wait"]
            return 1500.0

    monkeypatch.setattr(torch.cuda, "Event", Mark)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: queue.append("idle"))
    assert time_passes(lambda: queue.append("pass"), 3, torch.device("cuda")) == 1.5


def test_rows_are_measured_once_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    answer = bench("--models", MODEL, "--search-batch", "--training", *QUICK, "--rows", str(path))
    assert answer.returncode == 0, answer.stderr
    rows = read_rows(path)
    assert [(row.model, row.work, row.optimizer) for row in rows] == [
        (MODEL, "inference", ""),
        (MODEL, "training", "adam"),
    ]
    for row in rows:
        assert (row.batch, row.threads, row.timer, len(row.rates)) == (32, 1, "wall clock", 3)
        assert row.lower_quartile <= row.images_per_second <= row.upper_quartile
        assert row.packages["torch"] == torch.__version__.partition("+")[0] and row.load_average is not None
    # A forward pass is a third of a training step's arithmetic.
    assert rows[0].images_per_second > rows[1].images_per_second
    content = path.read_bytes()
    again = bench("--models", MODEL, "--search-batch", "--training", *QUICK, "--rows", str(path))
    assert again.returncode == 0 and again.stderr.count("measured before") == 2
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--search-batch"], "name the models"),
        (["--models", "mixer-laptop-23px", "--search-batch"], "did you mean 'mixer-laptop-32px'"),
        (["--models", MODEL, "--rows", "x.jsonl"], "--rows belongs to --search-batch"),
        (["--models", MODEL, "--study", "runs/x"], "leave --models out"),
        (["--study", "/nowhere"], "does not exist"),
        (["--study", "runs/x", "--precision", "bf16"], "--precision: --study measures what that study trains"),
        (["--models", MODEL, "--search-batch", "--threads", "4000"], "take fewer"),
        (["--models", MODEL, "--search-batch", "--rows", "/nowhere/rows.jsonl"], "make it first"),
    ],
)
def test_bad_input_is_one_sentence(words: list[str], expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    from scaling.bench.command import main
    from scaling.errors import run_command

    assert run_command(main, ["inference", *words]) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: ") and told.count("\n") == 1 and expected in told


def test_a_study_is_measured_once_and_goes_on_after_a_kill(tiny_data: Path, tmp_path: Path) -> None:
    """Rows that are done stay, `launch: {throughput: after}` adds what is missing; each model has one row at last."""
    from tests.support.tiny_study import TINY_SWEEP

    sweep = tmp_path / "tiny.yaml"
    sweep.write_text(TINY_SWEEP.format(root=json.dumps(str(tiny_data))))
    models = [MODEL, "vit-laptop-32px"]
    settings = [f"grid.model=[{','.join(models)}]", "protocol.steps=4", "evals=[]", "launch.local.threads=1"]
    options = [word for setting in settings for word in ("--set", setting)]
    launch = [
        sys.executable,
        "-m",
        "scaling.launch",
        str(sweep),
        "--no-report",
        "--out",
        str(tmp_path / "runs"),
        *options,
    ]
    assert subprocess.run(launch, capture_output=True, check=False).returncode == 0
    study = tmp_path / "runs" / "tiny"
    path = study / "throughput.jsonl"
    measure = [sys.executable, "-m", "scaling.bench", "inference", "--study", str(study), *QUICK]
    measuring = subprocess.Popen(measure, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + 200
    while not path.exists() or path.read_bytes().count(b"\n") < 1:
        assert time.monotonic() < deadline and measuring.poll() is None
        time.sleep(0.02)
    os.killpg(measuring.pid, signal.SIGKILL)
    measuring.communicate()
    first = path.read_bytes().splitlines()[0]
    again = subprocess.run([*launch, "--set", "launch.throughput=after"], capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert "measured before: mixer-laptop-32px" in again.stderr
    assert path.read_bytes().splitlines()[0] == first
    rows = read_rows(path)
    assert [row.model for row in rows] == models
    assert all((row.num_classes, row.image_size, row.batch >= 32) == (4, 32, True) for row in rows)
    for damaged in (b"[1, 2]\n", path.read_bytes().replace(b'"batch": ', b'"batch": 1')):
        path.write_bytes(damaged)
        measured = subprocess.run(measure, capture_output=True, text=True, check=False)
        assert measured.returncode == 0 and f"{path}: line 1: damaged" in measured.stderr
        assert "measured again" in measured.stderr and path.read_bytes().startswith(damaged)
        assert [row.model for row in read_rows(path)] == models
