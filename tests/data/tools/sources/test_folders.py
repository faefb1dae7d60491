"""Folders as people have them: everything is packed or accounted for, and a build with bad files can be repaired."""

import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scaling.data.command import main
from scaling.data.format.load_manifest import load_manifest
from scaling.data.format.manifest import Manifest
from scaling.data.format.shard import Shard
from scaling.data.tools.sources.find import find_source
from scaling.data.tools.sources.source import SourceOptions
from scaling.errors import UserError


def image(value: int, kind: str = "JPEG") -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.full((8, 8, 3), value, np.uint8)).save(stream, kind)
    return stream.getvalue()


def put(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Two classes of ten images each."""
    for number in range(20):
        put(tmp_path / "tree" / ("cat" if number % 2 else "dog") / f"{number:02d}.jpg", image(number))
    return tmp_path / "tree"


def build(tree: Path, *options: str) -> int:
    return main(["build", str(tree), str(tree.parent / "out"), "--shard-samples", "4", "--threads", "2", *options])


def packed(manifest: Manifest) -> list[tuple[bytes, list[int]]]:
    """Every sample with its image's bytes and labels, in an order that does not depend on the shards."""
    shards = [Shard(manifest.shard_location(number)) for number in range(len(manifest.urls))]
    return sorted(shard.read(index) for shard in shards for index in range(len(shard)))


def test_what_systems_leave_is_left_out_and_said(tree: Path, capsys) -> None:
    put(tree / ".ipynb_checkpoints" / "0-checkpoint.jpg", image(0))
    put(tree / "__MACOSX" / "cat" / "0.jpg", image(0))
    put(tree / "cat" / ".ipynb_checkpoints" / "1-checkpoint.jpg", image(0))
    for name in ("._1.jpg", "Thumbs.db", ".DS_Store"):
        put(tree / "cat" / name, b"\0\5\x16\7")
    put(tree / "cat" / "notes.txt", b"x")
    put(tree / "0.jpg", image(0))
    (tree / "empty class").mkdir()
    (tree / "cat" / "link").symlink_to(tree / "dog")
    assert build(tree) == 0
    told = capsys.readouterr().out
    manifest = load_manifest(tree.parent / "out" / "manifest.json")
    assert manifest.classes == ("cat", "dog") and manifest.num_samples == 20
    assert manifest.class_counts is not None and manifest.class_counts.tolist() == [10, 10]
    for line in (
        "left out: 6 hidden and system files and folders",
        "left out: 1 class folders without an image that is packed ('empty class')",
        "left out: 1 images outside of class folders ('0.jpg')",
        "left out: 1 other files ('cat/notes.txt')",
        "left out: 1 folders behind symbolic links ('cat/link')",
    ):
        assert line in told


def test_the_table_names_samples_classes_and_label_type(tree: Path, capsys) -> None:
    assert build(tree) == 0
    told = capsys.readouterr().out
    assert "20 samples\n2 classes, single-label; the first are 'cat', 'dog'\nmost frequent: 'cat' 10" in told


def test_images_of_a_format_that_is_not_read_are_an_error_unless_ignored(tree: Path) -> None:
    put(tree / "emu" / "0.bmp", image(0, "BMP"))
    put(tree / "emu" / "1.tif", image(0, "TIFF"))
    put(tree / "cat" / "x.jfif", image(0))
    with pytest.raises(UserError, match=r"1 \.bmp \(such as 'emu/0\.bmp'\), 1 \.tif.*--ignore '\*\.bmp'"):
        build(tree)
    assert build(tree, "--ignore", "*.bmp", "--ignore", "*.tif") == 0
    manifest = load_manifest(tree.parent / "out" / "manifest.json")
    assert manifest.classes == ("cat", "dog") and manifest.num_samples == 21


def test_names_that_are_not_utf8_are_told_before_anything_is_written(tree: Path) -> None:
    put(tree / os.fsdecode(b"caf\xe9") / "0.jpg", image(0))
    with pytest.raises(UserError, match=r"'caf\\udce9' is not UTF-8"):
        build(tree)
    assert not (tree.parent / "out").exists()


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("d\nog", r"holds \\n, which is not printable; rename it"),
        ("d\u2066og", r"holds \\u2066"),
        ("cat ", "two class folders, 'cat' and 'cat ', differ in blanks"),
        (" ", "blanks alone"),
    ],
)
def test_names_of_folders_that_do_something_or_look_alike_are_refused(tree: Path, name: str, told: str) -> None:
    put(tree / name / "0.jpg", image(0))
    with pytest.raises(UserError, match=told):
        build(tree)
    assert not (tree.parent / "out").exists()


def test_folders_named_by_numbers_are_in_the_order_of_the_numbers(tmp_path: Path) -> None:
    for number in (2, 10, 1):
        put(tmp_path / "data" / f"{number}" / f"{number}.jpg", image(0))
    source = find_source(tmp_path / "data")
    assert list(source.classes) == ["1", "2", "10"]
    assert dict(source.references()) == {"1/1.jpg": 0, "2/2.jpg": 1, "10/10.jpg": 2}
    put(tmp_path / "data" / "01" / "0.jpg", image(0))
    with pytest.raises(UserError, match="'01' and '1' are one number"):
        find_source(tmp_path / "data")


@pytest.mark.parametrize(("pattern", "told"), [("[", "has no ']'"), ("a[!]", "has no ']'"), ("", "empty pattern")])
def test_a_broken_pattern_is_a_sentence(tree: Path, pattern: str, told: str) -> None:
    with pytest.raises(UserError, match=told):
        build(tree, "--ignore", pattern)


def test_a_pattern_that_matches_nothing_is_told(tree: Path, capsys) -> None:
    put(tree / "cat" / "[1].jpg", image(0))
    assert build(tree, "--ignore", "*.gif", "--ignore", "[[]1].jpg", "--ignore", "cat") == 0
    told = capsys.readouterr().out
    assert "left out: 1 ignored as told ('cat/[1].jpg')" in told
    assert [pattern in told for pattern in ("'*.gif' matches nothing", "'cat' matches nothing")] == [True, True]
    assert "'[[]1].jpg' matches nothing" not in told
    with pytest.raises(UserError, match="every image is left out"):
        build(tree, "--ignore", "*")


def test_a_file_in_the_place_of_the_folder_is_told_before_anything_is_read(tree: Path) -> None:
    for out in (tree.parent / "file", tree.parent / "file" / "below"):
        (tree.parent / "file").write_text("x")
        with pytest.raises(UserError, match="is in its place; name another"):
            main(["build", str(tree / "absent"), str(out)])


def test_the_parts_of_a_data_set_are_not_its_classes(tmp_path: Path) -> None:
    for part in ("train", "val_2"):
        put(tmp_path / "data" / part / "cat" / "0.jpg", image(0))
    with pytest.raises(UserError, match="named like parts of a data set"):
        find_source(tmp_path / "data")
    put(tmp_path / "data" / "boat" / "0.jpg", image(0))
    assert list(find_source(tmp_path / "data").classes) == ["boat", "train", "val_2"]


def test_a_given_list_of_classes_fixes_their_numbers(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("emu\ndog\ncat\n")
    assert build(tree, "--classes", str(tmp_path / "classes.txt")) == 0
    manifest = load_manifest(tmp_path / "out" / "manifest.json")
    assert manifest.classes == ("emu", "dog", "cat")
    assert manifest.class_counts is not None and manifest.class_counts.tolist() == [0, 10, 10]
    (tmp_path / "classes.txt").write_text("cat\nemu\n")
    with pytest.raises(UserError, match="--classes does not name the class 'dog'"):
        build(tree, "--classes", str(tmp_path / "classes.txt"))


def test_other_shards_are_aligned_by_name(tree: Path, tmp_path: Path) -> None:
    assert build(tree) == 0
    (tmp_path / "classes.txt").write_text("dog\ncat\n")
    source = str(tmp_path / "out" / "manifest.json")
    assert main(["build", source, str(tmp_path / "again"), "--classes", str(tmp_path / "classes.txt")]) == 0
    assert load_manifest(tmp_path / "again" / "manifest.json").classes == ("dog", "cat")


BAD = {"cat/03.jpg": b"<html>404</html>", "dog/08.jpg": image(1)[:-200], "cat/15.jpg": b""}


def test_all_bad_files_are_found_in_one_pass_and_the_build_continues_without_them(tree: Path, capsys) -> None:
    whole = tree.parent / "whole"
    for name in BAD:
        (tree / name).unlink()
    assert main(["build", str(tree), str(whole), "--no-decode"]) == 0
    for name, data in BAD.items():
        put(tree / name, data)
    with pytest.raises(UserError, match=r"3 samples cannot be packed") as error:
        build(tree)
    assert all(name in str(error.value) for name in BAD) and "--skip-bad 3" in str(error.value)
    kept = {path.name: path.stat().st_mtime_ns for path in (tree.parent / "out").glob("shard-*.tar")}
    for name in BAD:
        (tree / name).unlink()
    assert build(tree) == 0
    manifest = load_manifest(tree.parent / "out" / "manifest.json")
    assert manifest.num_samples == 17
    assert kept and all((tree.parent / "out" / name).stat().st_mtime_ns == time for name, time in kept.items())
    fresh = load_manifest(whole / "manifest.json")
    assert packed(manifest) == packed(fresh) and manifest.classes == fresh.classes
    assert np.array_equal(manifest.class_counts, fresh.class_counts)
    assert build(tree) == 0
    assert "holds this data set already" in capsys.readouterr().out
    assert sorted(path.name for path in (tree.parent / "out").iterdir()) == ["manifest.json", *sorted(manifest.urls)]


def test_a_class_that_is_taken_out_with_its_only_bad_file_can_be_kept_by_name(tree: Path, tmp_path: Path) -> None:
    put(tree / "ant" / "00.jpg", b"<html>404</html>")
    with pytest.raises(UserError, match="1 sample cannot be packed"):
        build(tree)
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("shard-*.tar")}
    (tree / "ant" / "00.jpg").unlink()
    with pytest.raises(UserError, match=r"of other classes \('ant' is gone\).*--classes FILE to go on"):
        build(tree)
    (tmp_path / "classes.txt").write_text("ant\ncat\ndog\n")
    assert build(tree, "--classes", str(tmp_path / "classes.txt")) == 0
    manifest = load_manifest(tmp_path / "out" / "manifest.json")
    assert manifest.classes == ("ant", "cat", "dog") and manifest.num_samples == 20
    assert len(kept) > 2 and all(path.stat().st_mtime_ns == time for path, time in kept.items())


def test_a_file_that_came_since_is_told(tree: Path) -> None:
    put(tree / "cat" / "03.jpg", b"<html>404</html>")
    with pytest.raises(UserError, match="1 sample cannot be packed"):
        build(tree)
    put(tree / "cat" / "31.jpg", image(3))
    with pytest.raises(UserError, match="of other samples: files were added"):
        build(tree)


def test_bad_files_can_be_skipped_by_number_and_are_listed(tree: Path) -> None:
    for name, data in BAD.items():
        put(tree / name, data)
    with pytest.raises(UserError, match="3 samples cannot be packed"):
        build(tree, "--skip-bad", "2")
    assert build(tree, "--skip-bad", "3") == 0
    manifest = load_manifest(tree.parent / "out" / "manifest.json")
    assert manifest.num_samples == 17 and len(manifest.origin["skipped"]) == 3
    assert all(any(name in reason for reason in manifest.origin["skipped"]) for name in BAD)


def test_a_repaired_file_is_packed(tree: Path) -> None:
    put(tree / "cat" / "03.jpg", b"<html>404</html>")
    with pytest.raises(UserError, match="1 sample cannot be packed"):
        build(tree)
    put(tree / "cat" / "03.jpg", image(3))
    assert build(tree) == 0
    assert load_manifest(tree.parent / "out" / "manifest.json").num_samples == 20


def test_a_file_skipped_at_first_is_packed_once_it_is_repaired(tree: Path) -> None:
    for name, data in BAD.items():
        put(tree / name, data)
    with pytest.raises(UserError, match="3 samples cannot be packed"):
        build(tree, "--skip-bad", "1")
    for name in BAD:
        put(tree / name, image(9))
    assert build(tree) == 0
    manifest = load_manifest(tree.parent / "out" / "manifest.json")
    assert manifest.num_samples == 20 and "skipped" not in manifest.origin


def test_a_fifo_does_not_hold_the_build(tree: Path) -> None:
    os.mkfifo(tree / "cat" / "pipe.jpg")
    with pytest.raises(UserError, match=r"pipe\.jpg is no file"):
        build(tree)


def test_other_options_are_refused_for_sources_that_have_none(tree: Path) -> None:
    with pytest.raises(UserError, match="holds no vectors"):
        find_source(tree, SourceOptions(label_type="one-hot"))


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--seed", "-1"),
        ("--threads", "0"),
        ("--shard-samples", "9" * 20),
        ("--max-side", "0"),
        ("--skip-bad", "-1"),
    ],
)
def test_numbers_out_of_range_are_told_before_anything_is_written(tree: Path, option: str, value: str) -> None:
    with pytest.raises(UserError, match=rf"{option} {value}: give a whole number from"):
        main(["build", str(tree), str(tree.parent / "out"), option, value])
    assert not (tree.parent / "out").exists()
