"""The event log: what is written is read back, lost work is left out, a torn line is counted."""

import math
from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaling.records.events import KINDS, Event, EventWriter, read_events, resolve
from scaling.records.reading import seal_line


def event(step: int, attempt: int = 1, kind: str = "step", **metrics: float) -> Event:
    return Event(
        run_id="r",
        attempt=attempt,
        kind=kind,  # type: ignore[arg-type]
        step=step,
        examples_seen=step * 32,
        unique_examples=min(step * 32, 100),
        flops=step * 1e9,
        train_seconds=step * 0.1,
        pause_seconds=0.5,
        device="cpu",
        num_devices=1,
        precision="fp32",
        metrics=metrics,
    )


def test_round_trip(tmp_path: Path) -> None:
    written = [event(i, kind=kind, loss=i / 7) for i, kind in enumerate(KINDS)]
    with EventWriter(tmp_path / "events.jsonl") as writer:
        for row in written:
            writer.write(row)
    assert list(read_events(tmp_path / "events.jsonl").events) == written


def test_not_a_number_survives_as_not_a_number(tmp_path: Path) -> None:
    with EventWriter(tmp_path / "events.jsonl") as writer:
        writer.write(event(3, loss=math.nan))
    text = (tmp_path / "events.jsonl").read_text()
    assert "NaN" not in text
    assert math.isnan(read_events(tmp_path / "events.jsonl").events[0].metrics["loss"])


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_a_torn_last_line_is_skipped_counted_and_does_not_swallow_the_next(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "events.jsonl"
    with EventWriter(path) as writer:
        writer.write(event(1))
        writer.write(event(2))
    path.write_bytes(path.read_bytes()[:-cut])
    with EventWriter(path) as writer:
        writer.write(event(1, attempt=2, kind="start"))
        writer.write(event(2, attempt=2))
    log = read_events(path)
    # Cutting the line break alone leaves a whole row.
    assert log.num_torn == (0 if cut == 1 else 1)
    assert [(row.attempt, row.step) for row in log.events if row.attempt == 2] == [(2, 1), (2, 2)]


def test_rows_past_the_resumed_step_are_superseded(tmp_path: Path) -> None:
    rows = [event(0, kind="start"), *(event(s) for s in range(10, 60, 10))]
    rows += [event(30, attempt=2, kind="start"), event(40, attempt=2)]
    rows += [event(10, attempt=3, kind="start"), *(event(s, attempt=3) for s in (20, 30, 40, 50))]
    with EventWriter(tmp_path / "events.jsonl") as writer:
        for row in rows:
            writer.write(row)
    log = read_events(tmp_path / "events.jsonl")
    steps = [(row.attempt, row.step) for row in log.events if row.kind == "step"]
    assert steps == [(1, 10), (3, 20), (3, 30), (3, 40), (3, 50)]
    assert log.num_superseded == 6  # Steps 20 to 50 of the first attempt, start and step 40 of the second.


@given(st.lists(st.integers(1, 12), min_size=1, max_size=6), st.data())
def test_any_history_of_kills_reads_as_one_unbroken_run(lengths: list[int], data: st.DataObject) -> None:
    """Whatever the checkpoints and kills were, each step of the final history is there once, in order."""
    rows: list[Event] = []
    reached = 0
    for attempt, length in enumerate(lengths, start=1):
        start = data.draw(st.integers(0, reached))
        rows.append(event(start, attempt, "start"))
        rows += [event(step, attempt) for step in range(start + 1, start + length + 1)]
        reached = start + length
    steps = [row.step for row in resolve(rows) if row.kind == "step"]
    assert steps == list(range(1, reached + 1))


def test_a_missing_file_is_an_empty_log(tmp_path: Path) -> None:
    assert read_events(tmp_path / "none.jsonl").events == ()


def test_unknown_fields_of_a_later_schema_are_ignored(tmp_path: Path) -> None:
    line = seal_line({**asdict(event(5)), "novelty": 1})
    (tmp_path / "events.jsonl").write_bytes(line)
    assert read_events(tmp_path / "events.jsonl").events[0].step == 5
