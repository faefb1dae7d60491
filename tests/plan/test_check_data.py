"""Planning compares class names, counts what a probe needs and refuses unfair subsets, before anything is trained."""

import json
import logging
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from webdataset import TarWriter

from scaling.data.format.class_names import ClassNames
from scaling.data.format.index import expand_urls, index_shards
from scaling.data.format.manifest import Manifest
from scaling.errors import UserError
from scaling.launch.command import main
from scaling.plan.check_data import class_problem, each_warning_once, probe_problem, warnings_once_planned
from tests.support.tiny_study import encode

IMAGE = encode(np.zeros((8, 8, 3), np.uint8))

SWEEP = """\
study: checks
data: {{root: {root}, train: train.json, val: val.json{more}}}
protocol: {{kind: constant_steps, steps: 4, batch: 4}}
defaults: {{learning_rate: 1.0e-3}}
grid: {{model: [mixer-laptop-32px], fraction: [{fraction}], seed: [0]}}
evals: [{evals}]
"""

Write = Callable[..., Manifest]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """`write("train", ["cat", "dog"], [[0, 1], [1]])`: a manifest of one shard per list of labels."""

    def run(name: str, classes: Sequence[str] | None, shards: Sequence[Sequence[int]]) -> Manifest:
        folder = tmp_path / name
        folder.mkdir()
        for shard, labels in enumerate(shards):
            with TarWriter(str(folder / f"{shard:03d}.tar")) as writer:
                for number, label in enumerate(labels):
                    writer.write({"__key__": f"{name}{shard:03d}{number:04d}", "png": IMAGE, "cls": str(label)})
        named = None if classes is None else ClassNames(tuple(classes))
        return index_shards(expand_urls([str(folder)]), tmp_path / f"{name}.json", name=name, classes=named, threads=1)

    return run


def dry_run(
    root: Path, capsys: pytest.CaptureFixture[str], fraction: float = 1.0, evals: str = "", more: str = ""
) -> str:
    """What `--dry-run` says on stderr when it refuses with exit code 2; empty when it plans."""
    sweep = root / "sweep.yaml"
    sweep.write_text(SWEEP.format(root=json.dumps(str(root)), fraction=fraction, evals=evals, more=more))
    try:
        code = main([str(sweep), "--dry-run", "--out", str(root / "runs")])
    except UserError as error:
        return str(error)
    capsys.readouterr()
    assert code == 0
    return ""


def test_a_validation_set_of_other_classes_is_refused_with_their_names(write: Write, tmp_path: Path, capsys) -> None:
    write("train", ["cat", "dog", "emu", "fox"], [[0, 1, 2, 3]])
    write("val", ["cat", "dog", "emu"], [[0, 1, 2]])
    told = dry_run(tmp_path, capsys)
    assert "data.val" in told and "'fox' is only in train.json" in told and "--classes" in told


def test_the_same_classes_in_another_order_are_refused(write: Write, tmp_path: Path, capsys) -> None:
    write("train", ["cat", "dog"], [[0, 1]])
    write("val", ["dog", "cat"], [[0, 1]])
    assert "another order: class 0 is 'cat' in train.json and 'dog' in val.json" in dry_run(tmp_path, capsys)


def test_equal_classes_are_planned(write: Write, tmp_path: Path, capsys) -> None:
    write("train", ["cat", "dog"], [[0, 1]])
    write("val", ["cat", "dog"], [[0, 1, 1]])
    assert dry_run(tmp_path, capsys) == ""


def test_numbers_are_not_compared_and_that_is_said(write: Write, caplog: pytest.LogCaptureFixture) -> None:
    named, numbered = write("a", ["cat", "dog"], [[0, 1]]), write("b", None, [[0, 1]])
    with caplog.at_level(logging.WARNING):
        assert class_problem(named, numbered, "a.json", "b.json") is None
    assert "cannot be compared, because b.json has numbers only" in caplog.text


def test_what_holds_of_two_uses_of_the_data_is_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    planning = logging.getLogger("scaling.plan.check_data")
    with caplog.at_level(logging.WARNING), warnings_once_planned():
        for name in ("a.json", "b.json", "a.json"):
            planning.warning("%s has numbers only", name)
        assert not caplog.messages
    assert caplog.messages == ["a.json has numbers only", "b.json has numbers only"]
    caplog.clear()
    with caplog.at_level(logging.WARNING), each_warning_once():
        for name in ("a.json", "b.json", "a.json"):
            planning.warning("%s has numbers only", name)
        assert caplog.messages == ["a.json has numbers only", "b.json has numbers only"]


def test_a_validation_set_that_is_learned_from_is_warned_of(
    write: Write, tmp_path: Path, capsys, caplog: pytest.LogCaptureFixture
) -> None:
    write("train", ["a", "b"], [[0, 1], [1, 1]])
    write("val", ["a", "b"], [[1, 0]])
    with caplog.at_level(logging.WARNING):
        assert dry_run(tmp_path, capsys) == ""
        assert "learned from" not in caplog.text
        folders = [str(tmp_path / "val"), str(tmp_path / "train/001.tar")]
        index_shards(expand_urls(folders), tmp_path / "val.json", name="v", classes=ClassNames(("a", "b")), threads=1)
        assert dry_run(tmp_path, capsys) == ""
    assert "val.json and train.json hold the same images (1 of the shards are in both)" in caplog.text


PROBE = "{{kind: fewshot, support: support.json, test: test.json, shots: {shots}}}"


@pytest.mark.parametrize(
    ("support", "test", "shots", "told"),
    [
        ((["a", "b"], [[0, 0, 1]]), (["a", "b"], [[0, 1]]), [1, 2], r"1 of 2 classes.*fewer than 2 images.*'b' with 1"),
        (
            (["a", "b"], [[0, 0, 1, 1]]),
            (["c", "d"], [[0, 1]]),
            [1, 2],
            "the classes of test.json are not those of support",
        ),
        ((["a", "b"], [[0, 0, 0]]), (["a", "b"], [[0, 1]]), [1], "'b' with 0, although the test set has it"),
        ((["a", "b"], [[0, 0, 1, 1]]), (["a", "b", "c"], [[0, 2]]), [1, 2], "has 2 classes and test.json has 3"),
        ((["a", "b"], [[0, 0, 1, 1]]), (["a", "b"], [[0, 1]]), [1, 2], None),
    ],
)
def test_what_a_probe_needs_is_known_before_training(
    write: Write, tmp_path: Path, capsys, support, test, shots: list[int], told: str | None
) -> None:
    write("train", ["a", "b"], [[0, 1]])
    write("val", ["a", "b"], [[1, 0]])
    write("support", *support)
    write("test", *test)
    said = dry_run(tmp_path, capsys, evals=PROBE.format(shots=shots))
    assert re.search(told, said) if told else said == ""


def test_a_probe_on_several_labels_an_image_is_refused(write: Write, tmp_path: Path) -> None:
    single = write("single", ["a", "b"], [[0, 1]])
    with TarWriter(str(tmp_path / "multi.tar")) as writer:
        writer.write({"__key__": "k", "png": IMAGE, "json": [0, 1, 0]})
        writer.write({"__key__": "l", "png": IMAGE, "json": [0]})
    multi = index_shards([str(tmp_path / "multi.tar")], tmp_path / "multi.json", name="m", classes=["a", "b"])
    problem = probe_problem("fewshot", {"support": ("s", multi), "test": ("t", single)}, {"shots": (1,)})
    assert problem is not None and "s is multi-label" in problem


def test_a_subset_of_shards_written_class_by_class_is_refused_unless_told(write: Write, tmp_path: Path, capsys) -> None:
    write("train", None, [[shard] * 50 for shard in range(20)])
    write("val", None, [list(range(20))])
    assert dry_run(tmp_path, capsys, fraction=1.0) == ""
    told = dry_run(tmp_path, capsys, fraction=0.1)
    assert "data.train" in told and "no fair sample" in told and "allow_unfair_subsets" in told
    assert dry_run(tmp_path, capsys, fraction=0.1, more=", allow_unfair_subsets: true") == ""
