"""Validation: every kind of damage is found and told, and unfair shards are told apart from fair ones."""

import gzip
import io
import json
import shutil
import tarfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from webdataset import TarWriter

from scaling.data.command import main
from scaling.data.format.homogeneity import Homogeneity, compare_label_counts
from scaling.data.format.index import expand_urls, index_shards
from scaling.data.format.load_manifest import load_manifest
from scaling.data.format.manifest import Manifest
from scaling.data.tools.validate import Validation, validate_data
from tests.support.tiny_study import encode


@pytest.fixture
def data(tiny_data: Path, tmp_path: Path) -> Path:
    """A copy of the tiny training set, to be damaged."""
    shutil.copytree(tiny_data / "train", tmp_path / "train")
    shutil.copy(tiny_data / "train.json", tmp_path / "train.json")
    return tmp_path


def compare_shards(labels_by_shard: list[np.ndarray]) -> Homogeneity | None:
    """By the label of each image."""
    return compare_label_counts([Counter(labels.tolist()) for labels in labels_by_shard])


def check(data: Path) -> Validation:
    return validate_data(load_manifest(data / "train.json"))


def indexed(data: Path) -> Manifest:
    """The manifest made again after the damage, as if the data had always been so."""
    return index_shards(expand_urls([str(data / "train")]), data / "train.json", name="train")


def kinds(result: Validation) -> Counter[str]:
    return Counter(finding.kind for finding in result.findings)


def overwrite(shard: Path, member_name: str, content: bytes | None) -> None:
    """Replace the beginning of a member's content, or all of it by zeros."""
    with tarfile.open(shard) as tar:
        member = tar.getmember(member_name)
    data = bytearray(shard.read_bytes())
    content = bytes(member.size) if content is None else content
    data[member.offset_data : member.offset_data + len(content)] = content
    shard.write_bytes(data)


def test_sound_data_has_no_findings(data: Path) -> None:
    result = check(data)
    assert result.findings == []
    assert (result.num_samples, result.num_repeated_keys, result.num_repeated_images) == (200, 0, 0)
    assert result.homogeneity is not None and result.homogeneity.is_fair


def test_one_changed_pixel_byte_breaks_the_checksum(data: Path) -> None:
    overwrite(data / "train" / "shard-001.tar", "0010004.cls", b"9")
    assert kinds(check(data)) == {"checksum": 1, "label": 1}


def test_unusable_samples_are_named(data: Path) -> None:
    overwrite(data / "train" / "shard-001.tar", "0010004.png", None)
    overwrite(data / "train" / "shard-002.tar", "0020007.cls", b"x")
    manifest = load_manifest(data / "train.json")
    texts = [finding.text for finding in validate_data(manifest).findings if finding.kind != "checksum"]
    assert len(texts) == 2
    assert "shard-001.tar" in texts[0] and "0010004" in texts[0]
    assert "shard-002.tar" in texts[1] and "0020007" in texts[1]


def test_missing_empty_and_truncated_shards(data: Path) -> None:
    (data / "train" / "shard-000.tar").unlink()
    (data / "train" / "shard-001.tar").write_bytes(b"")
    half = (data / "train" / "shard-002.tar").read_bytes()[:10_000]
    (data / "train" / "shard-002.tar").write_bytes(half)
    result = check(data)
    assert kinds(result) == {"unreadable": 3}
    for word, finding in zip(("cannot be read", "empty", "cut off"), result.findings, strict=True):
        assert word in finding.text


def test_a_shard_cut_between_samples_is_noticed(data: Path) -> None:
    path = data / "train" / "shard-003.tar"
    with tarfile.open(path) as tar:
        # webdataset writes a pax header of two blocks before each member.
        cut = tar.getmembers()[40].offset
    path.write_bytes(path.read_bytes()[:cut])
    assert kinds(check(data)) == {"checksum": 1, "count": 1, "no end marker": 1}
    indexed(data)
    assert kinds(check(data)) == {"no end marker": 1}


def test_repeated_keys_and_images_are_counted(data: Path) -> None:
    shutil.copy(data / "train" / "shard-004.tar", data / "train" / "shard-005.tar")
    (data / "train" / "shard-006.tar.gz").write_bytes(gzip.compress((data / "train" / "shard-004.tar").read_bytes()))
    result = validate_data(indexed(data))
    assert (result.num_repeated_keys, result.num_repeated_images) == (80, 80)


def test_the_command_exits_with_1_and_says_what_is_wrong(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(data / "train.json")
    assert main(["validate", path, "--threads", "1"]) == 0
    assert "200 samples read: no problem" in capsys.readouterr().out
    overwrite(data / "train" / "shard-001.tar", "0010004.png", None)
    assert main(["validate", path, "--threads", "1", "--json"]) == 1
    assert len(json.loads(capsys.readouterr().out)["findings"]) == 2


def random_shards(sizes: list[int], frequencies: np.ndarray, generator: np.random.Generator) -> list[np.ndarray]:
    labels = generator.choice(len(frequencies), sum(sizes), p=frequencies / frequencies.sum())
    return np.split(labels, np.cumsum(sizes)[:-1])


@pytest.mark.parametrize("sizes", [[40] * 5, [10, 3, 50, 7] * 5, [100] * 30])
def test_fair_shards_are_called_unfair_as_often_as_promised(sizes: list[int]) -> None:
    """Long tails, uneven shards: 5 % of p-values below 0.05. 600 draws, 30 expected; 53 is the 99.99 % point."""
    generator = np.random.default_rng(0)
    frequencies = 1 / np.arange(1, 200) ** 1.2
    results = [compare_shards(random_shards(sizes, frequencies, generator)) for _ in range(600)]
    p_values = np.array([result.p_value for result in results if result is not None])
    assert len(p_values) == 600
    assert 10 <= (p_values < 0.05).sum() <= 53
    assert np.mean([result.spread for result in results if result is not None]) == pytest.approx(1, abs=0.03)


def test_sorted_shards_are_unfair() -> None:
    labels = np.sort(np.random.default_rng(0).integers(0, 10, 5000))
    result = compare_shards(np.split(labels, 25))
    assert result is not None and not result.is_fair
    assert result.spread > 10


def test_one_shard_or_one_class_cannot_differ() -> None:
    assert compare_shards([np.arange(10)]) is None
    assert compare_shards([np.zeros(10, int), np.zeros(20, int)]) is None


def test_each_fault_of_a_shard_is_told_and_the_others_are_still_read(data: Path) -> None:
    """Faults that a reader cannot pass over, each in a shard of its own."""
    image = encode(np.zeros((4, 4, 3), np.uint8))
    a, b = ("a.png", image), ("b.png", image)
    faults = {
        "not adjacent": [a, b, ("a.cls", b"0"), ("b.cls", b"0")],
        "stands there twice": [a, ("a.cls", b"0"), ("a.cls", b"1")],
        "exactly one image": [a],
        "leaves its folder": [("../x.png", image), ("../x.cls", b"0")],
    }
    for number, members in enumerate(faults.values()):
        with tarfile.open(data / "train" / f"shard-{number:03d}.tar", "w") as tar:
            for name, content in members:
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    result = check(data)
    assert kinds(result) == {"unreadable": 4}
    for number, (reason, finding) in enumerate(zip(faults, result.findings, strict=True)):
        assert f"shard-{number:03d}.tar" in finding.text and reason in finding.text
    assert result.num_samples == 40


def test_shards_sorted_by_class_are_called_unfair_until_built_anew(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the command advises is what helps."""
    generator = np.random.default_rng(0)
    (tmp_path / "sorted").mkdir()
    for shard in range(4):
        with TarWriter(str(tmp_path / "sorted" / f"{shard}.tar")) as writer:
            for number in range(50):
                image = encode(generator.integers(0, 256, (2, 2, 3), np.uint8))
                writer.write({"__key__": f"{shard}-{number}", "png": image, "cls": str(shard)})
    manifest = tmp_path / "sorted" / "manifest.json"
    index_shards(expand_urls([str(tmp_path / "sorted")]), manifest, name="sorted")
    assert main(["validate", str(manifest), "--threads", "1"]) == 0
    assert "is NOT a fair sample; write the data set again in random order" in capsys.readouterr().out
    assert main(["build", str(manifest), str(tmp_path / "mixed"), "--shard-samples", "50"]) == 0
    capsys.readouterr()
    assert main(["validate", str(tmp_path / "mixed" / "manifest.json"), "--threads", "1"]) == 0
    assert "is a fair sample" in capsys.readouterr().out


def test_class_counts_of_the_manifest_are_compared_with_the_labels(tiny_data: Path, tmp_path: Path) -> None:
    body = json.loads((tiny_data / "val.json").read_text())
    body["class_counts"][2] += 1
    body["shards"]["url"] = [str(tiny_data / url) for url in body["shards"]["url"]]
    (tmp_path / "val.json").write_text(json.dumps(body))
    (finding,) = validate_data(load_manifest(tmp_path / "val.json"), decode=False).findings
    assert finding.kind == "class counts" and "samples of class '2'" in finding.text
