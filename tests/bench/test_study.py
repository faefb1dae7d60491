"""`scaling.bench study`: a real study is divided without rest, and rows of a log into what was done before each."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from scaling.bench.command import main
from scaling.bench.study.processor_time import ProcessorTime
from scaling.bench.study.split import BEGINNING, CHECKPOINTS, EDGES, IDLE, RESULT, STEPS, VALIDATION, WAITING, read_runs
from scaling.errors import UserError
from scaling.records.attempts.attempt import Attempt
from scaling.records.attempts.causes import Cause
from scaling.records.attempts.ends import End, append_end
from scaling.records.events import Event, EventWriter, Kind
from scaling.records.run_dir import RunDir
from tests.support.tiny_study import TINY_SWEEP


def test_a_study_is_divided_without_rest(tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep = tmp_path / "tiny.yaml"
    sweep.write_text(TINY_SWEEP.format(root=json.dumps(str(tiny_data))))
    target = tmp_path / "figures.json"
    assert main(["study", str(sweep), "--set", "protocol.steps=10", "--json", str(target)]) == 0
    figures = json.loads(target.read_text())
    assert (figures["study"], figures["runs"], figures["data_seconds"]) == ("tiny", 1, 0)
    parts = figures["parts"]
    assert {"start of the launcher", STEPS, VALIDATION, "scoring: fewshot", "report"} <= set(parts)
    assert sum(part["wall_seconds"] for part in parts.values()) == pytest.approx(figures["wall_seconds"], rel=1e-6)
    assert sum(part["cpu_seconds"] for part in parts.values()) == pytest.approx(figures["cpu_seconds"], rel=1e-6)
    assert sum(part["share"] for part in parts.values()) == pytest.approx(1)
    assert figures["share_beside_steps"] == pytest.approx(1 - parts[STEPS]["share"])
    assert parts[STEPS]["cpu_seconds"] > 0 and parts["report"]["cpu_seconds"] > 0
    assert f"{figures['share_beside_steps']:.1%} (goal: at most 25%)" in capsys.readouterr().out
    assert str(tmp_path) not in json.dumps(figures["settings"] | figures["machine"])


def test_each_row_takes_the_time_since_the_one_before(tmp_path: Path) -> None:
    """Two runs side by side and a third after them, on two places; seconds are chosen by hand."""
    for name, begin in (("a", 100.0), ("b", 100.0), ("c", 120.0)):
        _write_run(RunDir(tmp_path / name), begin)
    runs = read_runs(tmp_path)
    assert (runs.num_places, runs.begin, runs.end) == (2, 100.0, 137.0)
    expected = {
        BEGINNING: 1.0,
        STEPS: 7.0,
        WAITING: 2.0,
        EDGES: 1.0,
        VALIDATION: 2.0,
        CHECKPOINTS: 0.5,
        "scoring: fewshot": 3.0,
        RESULT: 0.5,
    }
    # Three runs of 17 seconds on two places take 25.5 of 37 seconds.
    assert runs.wall_seconds() == pytest.approx({part: 1.5 * s for part, s in expected.items()} | {IDLE: 11.5})


def _write_run(run: RunDir, begin: float) -> None:
    """17 seconds of one attempt that ends well."""
    run.attempts.mkdir(parents=True)
    run.plan.touch()
    Attempt(attempt=1, host="here", pid=1, unix_time=begin).save(run.path)
    rows: list[tuple[Kind, float, float, dict[str, float]]] = [
        ("start", 1, 0, {}),
        ("step", 11, 7, {"loss": 1.0, "data_wait_seconds": 2.0}),
        ("eval", 13, 7, {"upstream/loss": 1.0, "upstream/precision_at_1": 0.5}),
        ("checkpoint", 13.5, 7, {"stop_seconds": 0.5}),
        ("eval", 16.5, 7, {"fewshot/5shot_top1": 0.5}),
        ("done", 16.75, 7, {}),
    ]
    with EventWriter(run.events) as writer:
        for kind, after, train_seconds, metrics in rows:
            writer.write(
                Event(
                    run_id=run.path.name,
                    attempt=1,
                    kind=kind,
                    step=1,
                    examples_seen=1,
                    unique_examples=1,
                    flops=1.0,
                    train_seconds=train_seconds,
                    pause_seconds=after - train_seconds,
                    device="cpu",
                    num_devices=1,
                    precision="fp32",
                    metrics=metrics,
                    unix_time=begin + after,
                )
            )
    append_end(run.path, End(attempt=1, cause=Cause.DONE, unix_time=begin + 17))


def test_processor_time_is_that_of_descendants_too() -> None:
    """A grandchild that computes: what the kernel says of it when it has ended is what was sampled."""
    work = "import time\nwhile time.process_time() < 1: pass"
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {work!r}])"
    before = time.time()
    with subprocess.Popen([sys.executable, "-c", child]) as process, ProcessorTime(process.pid, 0.02) as processor:
        _, _, used = os.wait4(process.pid, 0)
        process.returncode = 0
    of_all = used.ru_utime + used.ru_stime
    assert processor.total() == pytest.approx(of_all, abs=0.1)
    assert processor.of_others((), before, time.time()) == pytest.approx(processor.total(), abs=0.05)


def test_a_folder_that_is_there_is_not_measured_in(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="exists; a study is measured from its start"):
        main(["study", "--keep", str(tmp_path)])
