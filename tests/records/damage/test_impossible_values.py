"""Records whose form and digest are right and whose values cannot be: said, and left out."""

import json
import zlib
from pathlib import Path
from typing import Any

import pytest

from scaling.records.files import content_digest
from tests.records.damage.finished_study import FinishedStudy, check_numbers, look


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("run_id", "another-run-00000000"),
        ("identity", "f" * 64),
        ("steps", 29),
        ("steps", 31),
        ("stopped_early", True),
        ("best_step", 31),
        ("examples_seen", 1),
        ("unique_examples", 7),
        ("flops", -1.0),
        ("train_seconds", -1.0),
        ("train_seconds", float("inf")),
        ("device_hours", 1e9),
        ("images_per_second", -5.0),
        ("images_per_second", 1e12),
        ("num_devices", 0),
        ("attempts", 0),
        ("precision", "bf16"),
        ("metrics", {"upstream/precision_at_1": 7.0}),
        ("metrics", {"upstream/precision_at_1": -0.1}),
        ("metrics", {"upstream/loss": -1.0}),
        ("metrics", {"upstream/loss": float("nan")}),
        ("metrics", {"upstream/loss": "low"}),
    ],
)
def test_a_result_that_cannot_be_is_told_and_left_out(
    field: str, value: object, study: FinishedStudy, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also with its digest made right."""
    folder = study.copy(tmp_path)
    path = folder / study.victim / "result.json"
    rewrite(path, field, value)
    row = look(study, folder, capsys)[study.victim]
    assert row["status"] == "failed" and str(path) in row["error"]
    assert "remove the file and launch the study again" in row["error"]
    assert study.victim not in study.numbers(folder).index
    check_numbers(study, folder, {study.victim})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("run_id", "another-run-00000000"),
        ("identity", "f" * 64),
        ("name", "another"),
        ("digest", "f" * 64),
        ("weights_sha256", "f" * 64),
        ("metrics", {"fewshot/2shot_top1": 7.0}),
        ("metrics", {"fewshot/2shot_top1": -0.5}),
        ("metrics", {"fewshot/images_per_second": -1.0}),
        ("metrics", {"fewshot/images_per_second": float("inf")}),
        ("metrics", {"upstream/precision_at_1": 0.99}),
        ("seconds", -1.0),
        ("num_devices", 0),
    ],
)
def test_an_evaluation_that_cannot_be_of_this_run_gives_no_number(
    field: str, value: object, study: FinishedStudy, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = study.copy(tmp_path)
    rewrite(folder / study.victim / "evals" / "fewshot.json", field, value)
    row = look(study, folder, capsys)[study.victim]
    assert row["status"] == "done, to be scored"
    assert row["metrics"] == {"upstream/precision_at_1": 0.25, "upstream/loss": 1.0}
    check_numbers(study, folder, {study.victim})


@pytest.mark.parametrize(
    "changes",
    [
        {"step": "many"},
        {"step": -1},
        {"step": 2**70},
        {"attempt": None},
        {"flops": float("inf")},
        {"train_seconds": "x"},
        {"kind": ["eval"]},
        {"metrics": [1]},
        {"metrics": {"loss": {"deep": 1}}},
        {"metrics": {"loss": "low"}},
        {"run_id": 5},
    ],
)
def test_a_sealed_row_of_wrong_types_is_left_out(changes: dict[str, Any], study: FinishedStudy, tmp_path: Path) -> None:
    folder = study.copy(tmp_path)
    path = folder / study.victim / "events.jsonl"
    first, *rest = path.read_bytes().splitlines(keepends=True)
    row = json.loads(rest[0])
    del row["crc32"]
    text = json.dumps(row | changes).replace("Infinity", "1e999")
    path.write_bytes(first + resealed(text) + b"".join(rest))
    check_numbers(study, folder, {study.victim})


def resealed(text: str) -> bytes:
    """A line with its own CRC-32, as a hostile writer would make it."""
    body = text[:-1]
    return f'{body}, "crc32": "{zlib.crc32(body.encode()):08x}"}}\n'.encode()


def rewrite(path: Path, field: str, value: object) -> None:
    """Change one field of a record and make its digest right again."""
    record = json.loads(path.read_text())
    del record["content_sha256"]
    record[field] = value
    try:
        digest = content_digest(record)
    except ValueError:  # NaN and infinity have no canonical JSON
        digest = "0" * 64
    path.write_text(json.dumps({**record, "content_sha256": digest}))
