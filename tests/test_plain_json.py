"""A key that a user wrote twice is one sentence wherever JSON or YAML of users is read, never one of the two values."""

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import scaling.models.__main__ as models
from analysis.report.options import read_titles
from scaling.data.command import main as data_command
from scaling.data.format.class_names import read_classes
from scaling.data.format.exclusion_list import load_exclusion
from scaling.data.format.load_manifest import load_manifest
from scaling.data.format.manifest import build_manifest
from scaling.data.tools.sources.find import find_source
from scaling.data.tools.sources.source import SourceOptions
from scaling.errors import UserError, run_command
from scaling.evals.label_files import read_label_file
from scaling.plain_json import read_json
from scaling.spec.document import load_document
from tests.support.tiny_study import encode


def write_shard(path: Path, label: bytes) -> None:
    with tarfile.open(path, "w") as tar:
        for name, data in (("0.png", encode(np.zeros((8, 8, 3), np.uint8))), ("0.json", label)):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def exclusion(path: Path) -> None:
    whole = build_manifest(
        name="a", label_type="single", classes=["a"], folder=path.parent, urls=["a.tar"], num_samples=[1],
        num_bytes=[1], sha256=["0" * 64], origin={}
    )  # fmt: skip
    load_exclusion(path, whole)


READERS: list[tuple[str, str, str, Callable[[Path], object]]] = [
    ("classes.json", '{"cat": 0, "dog": 1, "cat": 2}', "cat", read_classes),
    ("manifest.json", '{"schema": 1, "name": "a", "name": "b"}', "name", load_manifest),
    ("exclude.json", '{"samples": {"shard": [], "shard": [0]}}', "shard", exclusion),
    ("sets.json", '{"a": [1], "a": [2]}', "a", read_label_file),
    ("titles.json", '{"m": "One", "m": "Two"}', "m", read_titles),
    ("titles.yaml", "1: One\n'1': Two\n", "1", read_titles),
    ("sweep.yaml", "study: a\nprotocol: {steps: 1, steps: 2}\n", "steps", load_document),
]


@pytest.mark.parametrize(("name", "text", "key", "read"), READERS, ids=[name for name, *_ in READERS])
def test_a_file_with_a_key_written_twice_is_one_sentence(
    tmp_path: Path, name: str, text: str, key: str, read: Callable[[Path], object]
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError) as refusal:
        read(tmp_path / name)
    told = str(refusal.value)
    assert name in told and key in told and ("keep one" in told or "remove one" in told) and told.isprintable()


@pytest.mark.parametrize(
    ("label", "told"),
    [
        (b'{"label": 1, "label": 0}', "the key 'label' is written twice"),
        (b'{"labels": [0], "meta": {"a": 1, "a": 2}}', "the key 'a' is written twice"),
        (b'{"label": 1, "labels": [0]}', "its 'labels' and its 'label' differ"),
    ],
)
def test_a_label_that_says_two_things_is_refused_with_its_sample(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], label: bytes, told: str
) -> None:
    write_shard(tmp_path / "a.tar", label)
    assert run_command(data_command, ["index", str(tmp_path / "a.tar"), "--out", str(tmp_path / "manifest.json")]) == 2
    said = capsys.readouterr().err
    assert told in said and "a.tar" in said and "keep one" in said and "Traceback" not in said
    assert not (tmp_path / "manifest.json").exists()


def test_the_repeated_one_of_many_keys_is_found_in_linear_time() -> None:
    """A quadratic search among so many would take minutes."""
    keys = ", ".join(f'"{number}": 0' for number in range(100_000))
    with pytest.raises(ValueError, match="'99999' is written twice"):
        read_json(f'{{{keys}, "99999": 1}}')


def test_options_of_the_command_line_say_one_thing(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(models.main, ["mixer-b/16", "--options", '{"gelu": "exact", "gelu": "tanh"}']) == 2
    assert "'gelu' is written twice" in capsys.readouterr().err
    with pytest.raises(UserError, match="'size' is given several times; keep one"):
        find_source("torchvision:FakeData?size=3&size=4", SourceOptions())


def test_other_json_is_read_as_before() -> None:
    value = {"a": [1, {"b": None}], "c": {"a": 2.5}}
    assert read_json(b'\xef\xbb\xbf{"a": [1, {"b": null}], "c": {"a": 2.5}}') == value
    assert read_json('{"a": 1}'.encode("utf-16")) == {"a": 1}
