"""Local shards are compared with their manifest: size at every opening, SHA-256 once per shard and machine."""

import os
import random
import time
from pathlib import Path

import numpy as np
import pytest

from scaling.data.format.index import expand_urls, index_shards
from scaling.data.format.load_manifest import load_manifest
from scaling.data.format.manifest import Manifest
from scaling.data.read.loader import TrainLoader
from scaling.data.read.pixels import PixelSource
from scaling.data.select.subset import select_subset
from scaling.data.storage import verified_shards
from scaling.data.storage.integrity import CorruptShardError, file_sha256
from scaling.data.storage.verified_shards import VerifiedShards
from scaling.records.run_plan import AccessPlan
from tests.support.tiny_study import write_shards


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A manifest of three shards of 40 images, changed long ago; what is checked is remembered in tmp_path."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write_shards(tmp_path / "train", 3, seed=0)
    index_shards(expand_urls([str(tmp_path / "train")]), tmp_path / "train.json", name="train")
    for path in (tmp_path / "train").iterdir():
        os.utime(path, (0, 0))
    return tmp_path / "train.json"


def read_all(manifest: Manifest) -> int:
    source = PixelSource(manifest)
    return sum(len(source.shard_labels(number)) for number in range(len(manifest.urls)))


def shard(data: Path, number: int) -> Path:
    return data.parent / "train" / f"shard-{number:03d}.tar"


def test_a_shard_overwritten_by_another_one_is_refused(data: Path) -> None:
    shard(data, 0).write_bytes(shard(data, 1).read_bytes())
    with pytest.raises(CorruptShardError, match=r"shard-000\.tar (is not the file that was indexed|has)"):
        read_all(load_manifest(data))


def test_an_appended_block_is_refused_by_the_size_alone(data: Path) -> None:
    with shard(data, 2).open("ab") as stream:
        stream.write(bytes(512))
    with pytest.raises(CorruptShardError, match=r"shard-002\.tar has [\d,]+ bytes, but the manifest says"):
        read_all(load_manifest(data, AccessPlan(verify=False)))


def test_every_flipped_bit_is_noticed(data: Path) -> None:
    manifest = load_manifest(data)
    whole = shard(data, 1).read_bytes()
    generator = random.Random(0)
    for _ in range(60):
        changed = bytearray(whole)
        changed[generator.randrange(len(whole))] ^= 1 << generator.randrange(8)
        shard(data, 1).write_bytes(changed)
        with pytest.raises(CorruptShardError, match=r"shard-001\.tar is not the file that was indexed"):
            read_all(manifest)
    shard(data, 1).write_bytes(whole)
    assert read_all(manifest) == 120


def test_training_never_uses_a_sample_of_a_changed_shard(data: Path) -> None:
    manifest = load_manifest(data)
    changed = bytearray(shard(data, 1).read_bytes())
    changed[len(changed) // 2] ^= 1
    shard(data, 1).write_bytes(changed)
    loader = TrainLoader(
        PixelSource(manifest), select_subset(manifest, 1.0, 0), seed=0, batch=8, image_size=16, augment="flip"
    )
    with pytest.raises(CorruptShardError, match=r"shard-001\.tar"):
        for _, _ in zip(range(200), loader, strict=False):
            pass


def test_switched_off_the_content_is_not_read(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verified_shards, "file_sha256", lambda path: pytest.fail("read"))
    assert read_all(load_manifest(data, AccessPlan(verify=False))) == 120


def test_a_shard_is_read_once_per_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other processes, here other objects, find it in the folder, until the file changes in any way."""
    reads: list[Path] = []
    path = tmp_path / "a.tar"
    path.write_bytes(b"x" * 1000)
    sha256 = file_sha256(path)
    monkeypatch.setattr(verified_shards, "file_sha256", lambda path: reads.append(path) or file_sha256(path))
    monkeypatch.setattr(verified_shards, "SETTLED_SECONDS", -1.0)

    def check() -> int:
        VerifiedShards(verify=True, folder=tmp_path / "memory").check(path, 1000, sha256)
        return len(reads)

    assert [check(), check()] == [1, 1]
    os.utime(path, (5, 5))
    assert [check(), check()] == [2, 2]
    path.unlink()
    path.write_bytes(b"y" + b"x" * 999)
    os.utime(path, (5, 5))
    with pytest.raises(CorruptShardError):
        check()


def test_a_file_that_has_just_changed_is_not_remembered(tmp_path: Path) -> None:
    """Its time may be the same after a further change."""
    path = tmp_path / "a.tar"
    path.write_bytes(b"x" * 10)
    VerifiedShards(verify=True, folder=tmp_path / "memory").check(path, 10, file_sha256(path))
    assert not any(file.read_bytes() for file in (tmp_path / "memory").iterdir())


def test_a_memory_that_cannot_be_written_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(b"x" * 10)
    (tmp_path / "memory").write_text("a file")
    VerifiedShards(verify=True, folder=tmp_path / "memory" / "below").check(path, 10, file_sha256(path))


def test_a_shard_replaced_while_in_use_is_checked_again(data: Path) -> None:
    source = PixelSource(load_manifest(data))
    source.get(1, 0)
    other = shard(data, 1).read_bytes()
    replaced = bytearray(other)
    replaced[700] ^= 1
    time.sleep(0.01)
    shard(data, 1).write_bytes(replaced)
    with pytest.raises(CorruptShardError, match="is not the file that was indexed"):
        source.get(1, 1)
    shard(data, 1).write_bytes(other)
    assert source.get(1, 1).pixels.dtype == np.uint8
