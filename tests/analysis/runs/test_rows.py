from pathlib import Path

import pytest

from analysis.runs.rows import read_rows
from scaling.records.events import Event, EventWriter, read_events
from tests.support.synthetic_study import make_study


def log(run_dir: Path, events: list[Event]) -> None:
    run_dir.mkdir()
    with EventWriter(run_dir / "events.jsonl") as writer:
        for event in events:
            writer.write(event)


def event(attempt: int, kind: str, step: int, **metrics: float) -> Event:
    return Event(
        run_id="run", attempt=attempt, kind=kind, step=step, examples_seen=step, unique_examples=step, flops=1.0 * step,  # type: ignore[arg-type]
        train_seconds=1.0, pause_seconds=0.0, device="d", num_devices=1, precision="fp32", metrics=metrics
    )  # fmt: skip


def test_fast_and_careful_readers_agree(tmp_path: Path) -> None:
    study = make_study(tmp_path, models=["vit-b/32"], fractions=(0.1,), seeds=(0,), num_rows=40)
    (run_dir,) = study.glob("vit*")
    table, lost = read_rows([run_dir])
    expected = read_events(run_dir / "events.jsonl").events
    assert lost == {}
    assert table["step"].to_pylist() == [row.step for row in expected]
    assert table["loss"].to_pylist() == [row.metrics.get("loss") for row in expected]


def test_superseded_rows_and_torn_lines_are_left_out_and_counted(tmp_path: Path) -> None:
    rows = [event(1, "start", 0), event(1, "step", 10, loss=3.0), event(1, "step", 20, loss=2.0)]
    log(tmp_path / "run", [*rows, event(2, "start", 10), event(2, "step", 20, loss=1.5)])
    with (tmp_path / "run" / "events.jsonl").open("a") as stream:
        stream.write('{"run_id": "run", "att')
    table, lost = read_rows([tmp_path / "run"])
    assert lost == {"run": (1, 1)}
    assert table.filter(table["loss"].is_valid())["loss"].to_pylist() == [3.0, 1.5]


def test_a_run_without_a_log_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    table, lost = read_rows([tmp_path / "run"])
    assert (table.num_rows, lost) == (0, {})


@pytest.mark.parametrize("text", ["", "\n", "not json\n"])
def test_an_empty_or_foreign_log_gives_no_rows(tmp_path: Path, text: str) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "events.jsonl").write_text(text)
    assert read_rows([tmp_path / "run"])[0].num_rows == 0
