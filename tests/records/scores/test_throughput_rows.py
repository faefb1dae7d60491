"""A file of throughput rows: what is damaged is left out and told, and a later measurement replaces an earlier one."""

import logging
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from scaling.errors import UserError
from scaling.records.scores.throughput import append_row, read_rows
from tests.support.throughput_rows import make_row


def test_rows_come_back_and_the_latest_of_a_measurement_counts(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    faster = make_row(rates=(180.0, 200.0, 220.0), images_per_second=200, lower_quartile=190, upper_quartile=210)
    for row in (make_row(), make_row("vit-b/32"), faster):
        append_row(path, row)
    assert read_rows(path) == [faster, make_row("vit-b/32")]


@pytest.mark.parametrize(
    "changed",
    [
        {"device": "Other CPU"},
        {"precision": "bf16"},
        {"packages": {"torch": "2.1", "timm": "1.0"}},
        {"version": "0.2.0"},
        {"compile_mode": "default"},
        {"threads": 2},
        {"work": "training"},
    ],
)
def test_another_circumstance_is_another_place_and_another_measurement(changed: dict[str, Any]) -> None:
    assert make_row().place != make_row(**changed).place
    assert make_row().key != make_row(**changed).key


def test_another_size_is_another_measurement_in_the_same_place() -> None:
    assert make_row().place == make_row(image_size=448).place
    assert make_row().key != make_row(image_size=448).key


def test_damaged_lines_are_told_and_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "rows.jsonl"
    append_row(path, make_row())
    flipped = path.read_bytes().replace(b'"images_per_second": 100.0', b'"images_per_second": 900.0')
    append_row(path, make_row("vit-b/32"))
    with path.open("ab") as stream:
        stream.write(flipped)
        stream.write(b'{"model": "torn')
    append_row(path, make_row("bit-r50x1"))
    with caplog.at_level(logging.WARNING):
        assert [row.model for row in read_rows(path)] == ["mixer-b/32", "vit-b/32", "bit-r50x1"]
    assert "line 3" in caplog.text and "line 4" in caplog.text


@pytest.mark.parametrize("content", ["{}\n", "model,rate\na,1\n", '{"a": 1, "crc32": "00000000"}\n'])
def test_a_file_of_something_else_is_one_sentence(tmp_path: Path, content: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(content)
    with pytest.raises(UserError, match=r"rows\.jsonl: line 1.*scaling\.bench inference"):
        read_rows(path)


@pytest.mark.parametrize(
    "changed",
    [{"images_per_second": 101.0}, {"upper_quartile": 300.0}, {"batch": 7}, {"rates": (90.0, 100.0, float("nan"))}],
)
def test_numbers_that_contradict_each_other_are_no_row(changed: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        make_row(**changed)
