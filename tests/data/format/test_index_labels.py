"""What `index` makes of keys, labels and names that can be read in two ways: right, or one sentence, never a loss."""

import io
import json
import re
import tarfile
from pathlib import Path

import numpy as np
import pytest

from scaling.data.command import main
from scaling.data.format.index import expand_urls
from scaling.data.format.load_manifest import load_manifest
from scaling.data.format.manifest import Manifest
from scaling.data.read.pixels import PixelSource
from scaling.errors import UserError
from tests.support.tiny_study import encode

IMAGE = encode(np.full((8, 8, 3), 5, np.uint8))


def write_tar(path: Path, *members: tuple[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def labelled(*labels: object, extension: str = "cls") -> list[tuple[str, bytes]]:
    rows = []
    for number, label in enumerate(labels):
        text = label if isinstance(label, bytes) else json.dumps(label).encode()
        rows += [(f"{number:03d}.png", IMAGE), (f"{number:03d}.{extension}", text)]
    return rows


def index(path: Path, *options: str) -> Manifest:
    out = path.parent / "manifest.json"
    assert main(["index", str(path), "--out", str(out), *options]) == 0
    return load_manifest(out)


def labels_of(manifest: Manifest) -> list[list[int]]:
    return PixelSource(manifest).shard_labels(0)


def test_keys_with_a_dot_are_not_lost(tmp_path: Path) -> None:
    members = []
    for number in range(10):
        key = f"img{number:03d}" + ("" if number % 2 else ".v2")
        members += [(f"{key}.png", IMAGE), (f"{key}.cls", str(number % 3).encode())]
    manifest = index(write_tar(tmp_path / "a.tar", *members))
    assert manifest.num_samples == 10
    assert labels_of(manifest) == [[number % 3] for number in range(10)]


def test_two_versions_of_a_key_are_two_samples(tmp_path: Path) -> None:
    members = [(f"a.v{k}.{e}", IMAGE if e == "png" else b"%d" % k) for k in (1, 2) for e in ("png", "cls")]
    assert labels_of(index(write_tar(tmp_path / "a.tar", *members))) == [[1], [2]]


def test_a_second_image_is_mentioned_and_the_plain_one_is_taken(tmp_path: Path, capsys) -> None:
    other = encode(np.full((8, 8, 3), 200, np.uint8))
    members = [m for n in range(9) for m in ((f"{n}.png", IMAGE), (f"{n}.seg.png", other), (f"{n}.cls", b"1"))]
    manifest = index(write_tar(tmp_path / "a.tar", *members))
    assert PixelSource(manifest).get(0, 0).pixels.max() == 5
    assert "9 x .seg.png" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("members", "told"),
    [
        ([("a.seg.png", IMAGE), ("a.cls", b"1")], r"'a' has seg\.png, cls, but needs exactly one image"),
        ([("a.gif", b"GIF89a"), ("a.cls", b"1")], r"'a' has gif, cls, but needs exactly one image"),
        ([("a.tif", b"II"), ("a.v.cls", b"1")], "'a' has tif, v.cls"),
        ([("a.v2.png", IMAGE)], r"'a\.v2' has png, but needs"),
    ],
)
def test_what_cannot_be_a_sample_is_named_with_its_key(tmp_path: Path, members, told: str) -> None:
    with pytest.raises(UserError, match=told):
        index(write_tar(tmp_path / "a.tar", *members))


def test_members_that_are_no_part_of_a_sample_are_counted(tmp_path: Path, capsys) -> None:
    extra = [("000.txt", b"x"), ("readme", b"x"), ("._x.png", b"x"), ("000.json", b"{}")]
    index(write_tar(tmp_path / "a.tar", *labelled(0), *extra))
    told = capsys.readouterr().out
    assert all(part in told for part in ("1 x .txt", "1 x no extension", "1 x hidden files", "1 x .json"))


VECTORS = [[0, 0, 1], [1, 0, 0], [0, 1, 0], [0, 1.0, 0]]


def test_vectors_are_refused_unless_told(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", *labelled(*VECTORS, extension="json"))
    with pytest.raises(UserError, match=r"list of 3 values, all of them 0 or 1.*--label-type multi-hot"):
        index(path)
    one = index(path, "--label-type", "one-hot")
    assert (one.label_type, len(one.classes)) == ("single", 3)
    assert labels_of(one) == [[2], [0], [1], [1]]
    many = index(path, "--label-type", "multi-hot")
    assert many.label_type == "multi" and many.digest != one.digest
    assert one.class_counts is not None and one.class_counts.tolist() == [1, 2, 1]


def test_vectors_that_are_not_one_hot_are_refused_as_such(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", *labelled([1, 1, 0], [0, 0, 0], extension="json"))
    with pytest.raises(UserError, match="--label-type one-hot: some samples have no label or several"):
        index(path, "--label-type", "one-hot")
    assert labels_of(index(path, "--label-type", "multi-hot")) == [[0, 1], []]


def test_lists_of_class_numbers_stay_lists(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", *labelled([0, 1], [1, 2], [0], extension="json"))
    assert labels_of(index(path)) == [[0, 1], [1, 2], [0]]


IDS = (48735, 119020, 1454382)


def test_identifiers_need_names_and_then_become_classes(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", *labelled(*IDS, IDS[0]))
    with pytest.raises(UserError, match=r"labels go up to 1,454,382, but only 3 different ones.*--classes FILE"):
        index(path)
    (tmp_path / "classes.txt").write_text("".join(f"{n}\t{name}\n" for n, name in zip(IDS, "abc", strict=True)))
    manifest = index(path, "--classes", str(tmp_path / "classes.txt"))
    assert manifest.classes == ("a", "b", "c")
    assert labels_of(manifest) == [[0], [1], [2], [0]]
    again = index(path, "--classes", str(tmp_path / "manifest.json"))
    assert again.digest == manifest.digest


def test_a_validation_set_with_other_numbers_is_aligned_by_a_mapping(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", *labelled(0, 1))
    (tmp_path / "classes.txt").write_text("1\tcat\n0\tdog\n")
    manifest = index(path, "--classes", str(tmp_path / "classes.txt"))
    assert [manifest.classes[label] for (label,) in labels_of(manifest)] == ["dog", "cat"]


@pytest.mark.parametrize("label", [b"100000000", b"1_0", b"-1", b"1.0", b"1e2", b"9" * 30, b"0x1", b""])
def test_labels_that_are_no_class_numbers_are_refused_at_once(tmp_path: Path, label: bytes) -> None:
    with pytest.raises(UserError):
        index(write_tar(tmp_path / "a.tar", *labelled(b"0", label)))


@pytest.mark.parametrize("num_shards", [20, 4, 1])
def test_samples_in_the_order_of_their_classes_are_told_by_index(tmp_path: Path, capsys, num_shards: int) -> None:
    rows = labelled(*[number for number in range(20) for _ in range(30)])
    share = len(rows) // num_shards
    for shard in range(num_shards):
        write_tar(tmp_path / "data" / f"{shard:02d}.tar", *rows[shard * share : (shard + 1) * share])
    out = tmp_path / "manifest.json"
    assert main(["index", str(tmp_path / "data"), "--out", str(out)]) == 0
    assert "NOT a fair sample" in capsys.readouterr().out
    homogeneity = load_manifest(out).homogeneity
    assert homogeneity is not None and not homogeneity.is_fair


@pytest.mark.parametrize("name", ["run[1].tar", "set {v1}/a.tar", "a*b.tar", "x{1..2}.tar", "plain.tar"])
def test_a_file_is_found_under_its_literal_name(tmp_path: Path, name: str) -> None:
    path = write_tar(tmp_path / name, *labelled(0))
    assert expand_urls([str(path)]) == [str(path)]


def test_wildcards_work_below_a_folder_with_brackets(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "run[1]" / "a.tar", *labelled(0))
    assert expand_urls([str(tmp_path / "run[1]" / "*.tar")]) == [str(path)]


@pytest.mark.parametrize(
    ("pattern", "told"),
    [
        ("x{5..3}.tar", r"counts down; write \{3\.\.5\}"),
        ("x{0..99999999999}.tar", "above the limit"),
        ("x{0..9999}{0..9999}.tar", "above the limit"),
        ("x{0..3.tar", "not balanced"),
    ],
)
def test_braces_that_make_no_sense_are_a_sentence(pattern: str, told: str) -> None:
    with pytest.raises(UserError, match=told):
        expand_urls([pattern])


@pytest.mark.parametrize("other", ["b.tar.zst", "b.TAR", "sub/b.tar"])
def test_shards_that_would_be_lost_beside_others_are_told(tmp_path: Path, other: str) -> None:
    write_tar(tmp_path / "data" / "a.tar", *labelled(0))
    write_tar(tmp_path / "data" / other, *labelled(0))
    write_tar(tmp_path / "data" / "._a.tar", *labelled(0))
    with pytest.raises(UserError, match="holds 1 shards and 1 that would not be read"):
        expand_urls([str(tmp_path / "data")])


def test_a_label_that_is_repeated_counts_once_and_makes_no_list(tmp_path: Path) -> None:
    manifest = index(write_tar(tmp_path / "a.tar", *labelled([1, 1], [0], [2], extension="json")))
    assert (manifest.label_type, labels_of(manifest)) == ("single", [[1], [0], [2]])


def test_an_empty_list_among_single_labels_is_no_multi_label_set(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", *labelled([0], [], [2], [], extension="json"))
    with pytest.raises(UserError, match=r"sample '001' has no label \(2 such in all\).*--label-type multi"):
        index(path)
    assert index(path, "--label-type", "multi").label_type == "multi"
    assert index(path, "--ignore", "001.*", "--ignore", "003.*").label_type == "single"


def test_a_few_samples_with_several_labels_are_told(tmp_path: Path, capsys) -> None:
    index(write_tar(tmp_path / "a.tar", *labelled(*([k % 2] for k in range(150)), [0, 1], extension="json")))
    assert "multi-label because of 1 of 151 samples with several labels" in capsys.readouterr().out


@pytest.mark.parametrize("label", ["cat", True, None, 1.5, [[1]], "1"])
def test_a_label_of_another_kind_is_named(tmp_path: Path, label: object) -> None:
    path = write_tar(tmp_path / "a.tar", *labelled(0, label, extension="json"))
    said = label[0] if isinstance(label, list) else label
    with pytest.raises(
        UserError, match=re.escape(f"the label of sample '001' cannot be read ({str(said)!r} is no integer")
    ):
        index(path)
