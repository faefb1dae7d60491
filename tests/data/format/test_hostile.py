"""Shards made to hurt: each is refused with a reason, or read right; nothing hangs, runs or fills the memory."""

import gzip
import io
import json
import tarfile
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from scaling.data.format import shard as shard_module
from scaling.data.format.index import expand_urls, index_shards
from scaling.data.format.shard import Shard
from scaling.data.format.tar_headers import read_members
from scaling.data.read.pixels import PixelSource
from scaling.data.storage import shard_files
from scaling.data.storage.integrity import CorruptSampleError, CorruptShardError
from scaling.errors import UserError


def tar_of(*members: tuple[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return stream.getvalue()


def image(kind: str = "PNG", value: int = 7) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.full((8, 8, 3), value, np.uint8)).save(stream, kind)
    return stream.getvalue()


SOUND = tar_of(
    ("ä/1.jpg", b"x" * 600), ("ä/1.cls", b"3"), ("2.jpg", b"y" * 90), ("2.json", b"[1, 2]"), ("n" * 140, b"")
)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(changes=st.lists(st.tuples(st.integers(0, len(SOUND) - 1), st.integers(0, 255)), min_size=1, max_size=8))
def test_flipped_bytes_are_refused_or_harmless(changes: list[tuple[int, int]]) -> None:
    """Whatever is found lies inside the file and does not overlap, whichever bytes were changed."""
    data = bytearray(SOUND)
    for place, value in changes:
        data[place] = value
    frozen = bytes(data)
    try:
        listing = read_members(lambda offset, size: frozen[offset : offset + size], len(frozen), "fuzzed.tar")
    except CorruptShardError as error:
        assert "fuzzed.tar" in str(error)
        return
    end = 0
    for member in listing.members:
        assert end <= member.offset and member.offset + member.size <= len(frozen)
        end = member.offset + member.size


def test_a_gzip_bomb_is_refused_before_it_fills_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shard_files, "MAX_UNPACKED_BYTES", 3_000_000)
    (tmp_path / "bomb.tar.gz").write_bytes(gzip.compress(bytes(20_000_000)))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    tracemalloc.start()
    with pytest.raises(CorruptShardError, match=r"bomb\.tar\.gz unpacks to more than"):
        Shard(str(tmp_path / "bomb.tar.gz"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10_000_000
    assert [path.name for path in tmp_path.iterdir()] == ["bomb.tar.gz"], "the unpacked part was left behind"


def test_members_above_the_limits_are_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(tar_of(("k.jpg", b"x" * 5000), ("k.cls", b"1")))
    monkeypatch.setattr(shard_module, "MAX_IMAGE_BYTES", 4999)
    with pytest.raises(CorruptShardError, match=r"'k\.jpg' has 5,000 bytes"):
        Shard(str(path))
    path.write_bytes(tar_of(("k.jpg", b"x"), ("k.json", b" " * 2_000_000 + b"1")))
    with pytest.raises(CorruptShardError, match=r"'k\.json' has 2,000,001 bytes"):
        Shard(str(path))


@pytest.mark.parametrize(
    "label", [b"[" * 100_000, b'{"labels": ' + b"[0," * 20_000, json.dumps([0] * 20_000).encode(), b"1e999", b"NaN"]
)
def test_labels_made_to_exhaust_the_parser_are_refused(tmp_path: Path, label: bytes) -> None:
    (tmp_path / "a.tar").write_bytes(tar_of(("k.jpg", b"x"), ("k.json", label)))
    with pytest.raises(CorruptSampleError, match="'k'"):
        Shard(str(tmp_path / "a.tar")).read(0)


def test_a_shard_that_shrinks_while_in_use_is_an_error_and_no_crash(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(tar_of(("k.jpg", b"x" * 5000), ("k.cls", b"1")))
    shard = Shard(str(path))
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(CorruptShardError, match="changed its size"):
        shard.read(0)


def test_negative_and_excessive_labels(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(tar_of(("k.png", image()), ("k.cls", b"-1")))
    with pytest.raises(CorruptShardError, match=r"'k' has the labels \[-1\]"):
        index_shards(expand_urls([str(tmp_path)]), tmp_path / "m.json", name="x")
    (tmp_path / "a.tar").write_bytes(tar_of(("k.png", image()), ("k.cls", b"5")))
    with pytest.raises(UserError, match="names 2 classes, but labels go up to 5"):
        index_shards(expand_urls([str(tmp_path)]), tmp_path / "m.json", name="x", classes=["a", "b"])


def test_an_empty_label_list_is_multi_label_when_told_and_never_single(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(tar_of(("k.png", image()), ("k.json", b"[]"), ("l.png", image()), ("l.cls", b"0")))
    manifest = index_shards(expand_urls([str(tmp_path)]), tmp_path / "m.json", name="x", label_type="multi")
    assert PixelSource(manifest).get(0, 0).labels == []
    with pytest.raises(UserError, match="'k' has no label"):
        index_shards(expand_urls([str(tmp_path)]), tmp_path / "m.json", name="x")
    with pytest.raises(UserError, match="--label-type single"):
        index_shards(expand_urls([str(tmp_path)]), tmp_path / "m.json", name="x", label_type="single")


def test_a_name_that_lies_about_the_format_is_decoded_by_content(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(tar_of(("k.jpg", image("WEBP", 200)), ("k.cls", b"0")))
    manifest = index_shards(expand_urls([str(tmp_path)]), tmp_path / "m.json", name="x")
    assert abs(int(PixelSource(manifest).get(0, 0).pixels[4, 4, 1]) - 200) <= 2


def test_a_member_of_two_gigabytes_is_refused_unread(tmp_path: Path) -> None:
    """All of it is there, as a hole in the file; beside an image it is passed over, as one it is refused."""
    for extension in ("mp4", "jpg"):
        path = tmp_path / f"{extension}.tar"
        huge = tarfile.TarInfo(f"k.{extension}" if extension == "jpg" else "a.mp4")
        huge.size = 2 * 1024**3
        with path.open("wb") as stream:
            stream.write(huge.tobuf(tarfile.GNU_FORMAT))
            stream.seek(huge.size, io.SEEK_CUR)
            stream.write(tar_of(("k.png", image()), ("k.cls", b"1")))
    tracemalloc.start()
    assert Shard(str(tmp_path / "mp4.tar")).read(0) == (image(), [1])
    with pytest.raises(CorruptShardError, match=r"'k\.jpg' has 2,147,483,648 bytes, above the limit"):
        Shard(str(tmp_path / "jpg.tar"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000


def test_a_decompression_bomb_in_a_shard_is_refused_in_bounded_memory(tmp_path: Path) -> None:
    """400 megapixels of one colour in half a megabyte, every byte sound."""
    stream = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(stream, "PNG")
    (tmp_path / "a.tar").write_bytes(tar_of(("k.png", stream.getvalue()), ("k.cls", b"0")))
    manifest = index_shards(expand_urls([str(tmp_path)]), tmp_path / "m.json", name="x")
    tracemalloc.start()
    with pytest.raises(CorruptSampleError, match=r"'k' cannot be decoded .*(above the limit|exceeds limit)"):
        PixelSource(manifest).get(0, 0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5_000_000
