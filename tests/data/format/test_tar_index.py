"""Our tar index against Python's tarfile, and what hostile or broken shards are told."""

import gzip
import io
import os
import pickle
import tarfile
from pathlib import Path

import pytest

from scaling.data.format.shard import Shard
from scaling.data.storage.integrity import CorruptSampleError, CorruptShardError
from scaling.errors import UserError

FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}


def write_tar(path: Path, members: list[tuple[str, bytes]], fmt: int = tarfile.USTAR_FORMAT) -> Path:
    with tarfile.open(path, "w", format=fmt) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


@pytest.mark.parametrize("fmt", FORMATS)
@pytest.mark.parametrize("prefix", ["", "folder/", "a" * 60 + "/" + "b" * 60 + "/", "ünïcode/"])
def test_members_are_found_where_tarfile_finds_them(tmp_path: Path, fmt: str, prefix: str) -> None:
    members = [(f"{prefix}s{i}.{ext}", os.urandom(i * 37)) for i in range(1, 30) for ext in ("jpg", "cls", "txt")]
    if fmt != "ustar":
        members += [(f"{prefix}{'n' * 150}.jpg", b"long"), (f"{prefix}{'n' * 150}.cls", b"7")]
    members = [(name, b"3" if name.endswith("cls") else data) for name, data in members]
    path = write_tar(tmp_path / "a.tar", members, FORMATS[fmt])
    shard = Shard(str(path))
    with tarfile.open(path) as tar:
        expected = {m.name: tar.extractfile(m).read() for m in tar if m.isfile()}  # type: ignore[union-attr]
    assert len(shard) == len([name for name in expected if name.endswith(".jpg")])
    for index in range(len(shard)):
        key = shard.key(index)
        assert shard.read(index) == (expected[f"{key}.jpg"], [int(expected[f"{key}.cls"])])


def test_gzipped_shards_read_the_same(tmp_path: Path) -> None:
    plain = write_tar(tmp_path / "a.tar", [("a.png", b"x" * 1000), ("a.cls", b"1")])
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(plain.read_bytes()))
    shard = Shard(str(tmp_path / "a.tar.gz"))
    assert shard.read(0) == (b"x" * 1000, [1])


@pytest.mark.parametrize(
    ("extension", "content", "labels"),
    [
        ("cls", b"5", [5]),
        ("cls", b" 12\n", [12]),
        ("json", b"[3, 1]", [3, 1]),
        ("json", b'{"labels": [0, 2]}', [0, 2]),
        ("json", b'{"label": 4, "caption": "x"}', [4]),
        ("json", b'{"labels": []}', []),
    ],
)
def test_label_forms(tmp_path: Path, extension: str, content: bytes, labels: list[int]) -> None:
    shard = Shard(str(write_tar(tmp_path / "a.tar", [("k.jpg", b"x"), (f"k.{extension}", content)])))
    assert shard.read_labels([0]) == [labels]


@pytest.mark.parametrize("content", [b"", b"cat", b"1.5", b'{"caption": "x"}', b'["cat"]', b"[true]", b"\xff\xfe"])
def test_labels_that_are_no_class_numbers_are_told_with_shard_and_key(tmp_path: Path, content: bytes) -> None:
    extension = "json" if content[:1] in (b"{", b"[") else "cls"
    shard = Shard(str(write_tar(tmp_path / "a.tar", [("key7.jpg", b"x"), (f"key7.{extension}", content)])))
    with pytest.raises(CorruptSampleError, match=r"a\.tar.*key7"):
        shard.read_labels([0])


def test_pickles_are_passed_over_and_never_opened(tmp_path: Path) -> None:
    bomb = pickle.dumps(Bomb(str(tmp_path / "executed")))
    members = [("a.jpg", b"x"), ("a.cls", b"0"), ("a.pyd", bomb), ("a.pickle", bomb), ("a.pth", bomb)]
    shard = Shard(str(write_tar(tmp_path / "a.tar", members)))
    assert [shard.key(index) for index in range(len(shard))] == ["a"]
    assert not (tmp_path / "executed").exists()


class Bomb:
    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (self.path, "w")


def link(name: str, kind: bytes) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, "/etc/passwd"
    return info


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_are_refused(tmp_path: Path, kind: bytes) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        tar.addfile(link("a.jpg", kind))
    with pytest.raises(CorruptShardError, match="link, device"):
        Shard(str(tmp_path / "a.tar"))


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ([("../a.jpg", b"x"), ("../a.cls", b"0")], "leaves its folder"),
        ([("/a.jpg", b"x"), ("/a.cls", b"0")], "leaves its folder"),
        ([("a.jpg", b"x"), ("b.jpg", b"x"), ("a.cls", b"0"), ("b.cls", b"0")], "not adjacent"),
        ([("a.jpg", b"x"), ("a.jpg", b"y"), ("a.cls", b"0")], "twice"),
        ([("a.jpg", b"x")], "exactly one image"),
        ([("a.cls", b"0")], "exactly one image"),
        ([("a.jpg", b"x"), ("a.png", b"x"), ("a.cls", b"0")], "exactly one image"),
    ],
)
def test_unsound_shards_are_refused_with_the_reason(
    tmp_path: Path, members: list[tuple[str, bytes]], reason: str
) -> None:
    with pytest.raises(CorruptShardError, match=reason):
        Shard(str(write_tar(tmp_path / "a.tar", members)))


def test_every_truncation_is_noticed_or_ends_between_samples(tmp_path: Path) -> None:
    whole = write_tar(tmp_path / "a.tar", [(f"s{i}.{e}", b"1" * 700) for i in range(3) for e in ("jpg", "cls")])
    data = whole.read_bytes()
    end = 6 * (512 + 1024)
    for cut in (*range(1, end, 100), 3072, 6144):
        path = tmp_path / "cut.tar"
        path.write_bytes(data[:cut])
        try:
            shard = Shard(str(path))
        except CorruptShardError:
            assert cut % 3072
            continue
        # Only a cut between samples can pass for a shorter tar; but its end marker is gone.
        assert len(shard) == cut // (2 * (512 + 1024))
        assert not shard.has_end_marker


def test_garbage_and_emptiness_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.tar").write_bytes(b"")
    (tmp_path / "noise.tar").write_bytes(os.urandom(4096))
    (tmp_path / "broken.tar.gz").write_bytes(gzip.compress(b"x" * 9000)[:40])
    for name in ("empty.tar", "noise.tar", "broken.tar.gz"):
        with pytest.raises(CorruptShardError, match=name):
            Shard(str(tmp_path / name))
    with pytest.raises(UserError, match="cannot be read"):
        Shard(str(tmp_path / "absent.tar"))


def test_shell_urls_are_refused_and_never_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="never run"):
        Shard("pipe:touch executed")
    assert not list(tmp_path.iterdir())


def test_a_header_that_claims_gigabytes_costs_nothing(tmp_path: Path) -> None:
    info = tarfile.TarInfo("a.jpg")
    info.size = 2 * 1024**3
    (tmp_path / "a.tar").write_bytes(info.tobuf(tarfile.GNU_FORMAT) + b"x" * 1024)
    with pytest.raises(CorruptShardError, match="cut off"):
        Shard(str(tmp_path / "a.tar"))
