"""`index --ignore` leaves out shards and members: the manifest says so, and training reads it the same way."""

from pathlib import Path

import pytest

from scaling.data.command import main
from scaling.data.format.load_manifest import load_manifest
from scaling.data.read.pixels import PixelSource
from scaling.errors import UserError
from tests.data.format.test_index_labels import IMAGE, index, labelled, labels_of, write_tar


def test_an_ignored_image_leaves_with_its_sample_and_both_are_counted(tmp_path: Path, capsys) -> None:
    path = write_tar(tmp_path / "a.tar", *labelled(0, 1, 2), ("x.bmp", b"BM"), ("x.cls", b"1"))
    with pytest.raises(UserError, match="'x' has bmp, cls"):
        index(path)
    manifest = index(path, "--ignore", "*.bmp")
    assert labels_of(manifest) == [[0], [1], [2]]
    told = capsys.readouterr().out
    assert "1 x ignored as told" in told and "1 x label of an ignored image" in told
    assert load_manifest(tmp_path / "manifest.json").ignore == ("*.bmp",)


def test_the_patterns_are_part_of_what_the_data_set_is(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", *labelled(0, 1, 2))
    whole, part = index(path), index(path, "--ignore", "001.*")
    assert part.num_samples == 2 and part.digest != whole.digest
    assert PixelSource(part).shard_labels(0) == [[0], [2]]


def test_an_ignored_second_image_leaves_the_sample(tmp_path: Path) -> None:
    members = [(f"{n}.{end}", data) for n in range(3) for end, data in (("png", IMAGE), ("jpg", IMAGE), ("cls", b"1"))]
    path = write_tar(tmp_path / "a.tar", *members)
    with pytest.raises(UserError, match="needs exactly one image"):
        index(path)
    assert index(path, "--ignore", "*.jpg").num_samples == 3


def test_shards_are_left_out_by_their_names(tmp_path: Path) -> None:
    for name, label in (("a.tar", 0), ("b.tar", 1)):
        write_tar(tmp_path / "shards" / name, *labelled(label))
    (tmp_path / "shards" / "c.zip").write_bytes(b"")
    out = tmp_path / "manifest.json"
    with pytest.raises(UserError, match=r"or say --ignore 'c\.zip'"):
        main(["index", str(tmp_path / "shards"), "--out", str(out)])
    args = ["index", str(tmp_path / "shards"), "--out", str(out), "--ignore", "c.zip", "--ignore", "b.tar"]
    assert main(args) == 0
    assert [Path(url).name for url in load_manifest(out).urls] == ["a.tar"]
    with pytest.raises(UserError, match="every shard is left out"):
        main([*args, "--ignore", "*"])


def test_a_pattern_that_matches_nothing_is_told_and_a_broken_one_refused(tmp_path: Path, capsys) -> None:
    path = write_tar(tmp_path / "a.tar", *labelled(0, 1, 2))
    index(path, "--ignore", "001.*", "--ignore", "*.gif")
    told = capsys.readouterr().out
    assert "--ignore '*.gif' matches nothing" in told and "'001.*' matches nothing" not in told
    with pytest.raises(UserError, match="has no ']'"):
        index(path, "--ignore", "[")


def test_nothing_but_a_manifest_is_replaced_by_one(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", *labelled(0, 1))
    before = path.read_bytes()
    for out, told in ((path, "is there already and is no manifest"), (tmp_path, "is a folder, but names the manifest")):
        with pytest.raises(UserError, match=told):
            main(["index", str(path), "--out", str(out)])
    with pytest.raises(UserError, match="is in its place; name another"):
        main(["index", str(path), "--out", str(path / "manifest.json")])
    assert path.read_bytes() == before
    for _ in range(2):
        assert main(["index", str(path), "--out", str(tmp_path / "manifest.json")]) == 0
