"""Cache folders that are full, cannot be written or hold something else: one sentence, or what is there serves."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from scaling.data.command import main
from scaling.data.format.load_manifest import load_manifest
from scaling.data.format.manifest import Manifest
from scaling.data.read.pixels import PixelSource
from scaling.data.storage import remote
from scaling.errors import UserError, run_command
from scaling.records.run_plan import AccessPlan
from tests.support.http_server import serve
from tests.support.tiny_study import write_shards

Mount = Callable[..., None]


@pytest.fixture
def mount() -> Iterator[Mount]:
    """`mount(folder, "size=64k")` puts a small disk there; `mount(folder, "remount,ro")` changes one."""
    folders: list[Path] = []

    def run(folder: Path, options: str) -> None:
        folder.mkdir(exist_ok=True)
        command = ["mount", "-t", "tmpfs", "-o", options, "cache", str(folder)]
        if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("this user may not mount a disk")
        folders.append(folder)

    yield run
    for folder in dict.fromkeys(folders):
        subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Path], Manifest]]:
    """`data(cache)` is the manifest of two remote shards of 12 images, read through a cache."""
    monkeypatch.setattr(remote, "FIRST_PAUSE_SECONDS", 0.001)
    write_shards(tmp_path / "data" / "train", 2, seed=0, samples=12)
    assert main(["index", str(tmp_path / "data" / "train"), "--out", str(tmp_path / "data" / "train.json")]) == 0
    with serve(tmp_path / "data") as server:
        yield lambda cache: load_manifest(f"{server.url}/train.json", AccessPlan(cache=str(cache)))


def all_pixels(manifest: Manifest) -> list[np.ndarray]:
    source = PixelSource(manifest)
    return [source.get(shard, index)[0] for shard in range(2) for index in range(12)]


def test_a_full_disk_is_told_and_leaves_no_half_copy(
    data: Callable[[Path], Manifest], tmp_path: Path, mount: Mount
) -> None:
    cache = tmp_path / "cache"
    mount(cache, "size=16k")
    with pytest.raises(UserError, match=r"cannot be kept in .*cache \(No space left on device\); make room, or set"):
        all_pixels(data(cache))
    assert not list(cache.glob("*.shard")) and not list(cache.glob("*.part"))
    mount(cache, "remount,size=1m")
    assert len(all_pixels(data(cache))) == 24


def test_a_filled_cache_that_cannot_be_written_serves_what_it_holds(
    data: Callable[[Path], Manifest], tmp_path: Path, mount: Mount
) -> None:
    cache = tmp_path / "cache"
    mount(cache, "size=1m")
    right = all_pixels(data(cache))
    mount(cache, "remount,ro")
    assert all(map(np.array_equal, all_pixels(data(cache)), right))
    mount(cache, "remount,rw")
    first, _ = sorted(cache.glob("*.shard"))
    first.unlink()
    mount(cache, "remount,ro")
    with pytest.raises(UserError, match=r"cache .*cache cannot be written.*Read-only file system.*set another cache"):
        all_pixels(data(cache))


def test_full_temporary_space_is_told(
    data: Callable[[Path], Manifest], tmp_path: Path, mount: Mount, monkeypatch
) -> None:
    """`index` and `validate` copy remote shards there, one at a time."""
    mount(tmp_path / "tmp", "size=8k")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    url = data(tmp_path / "cache").shard_location(0)
    with pytest.raises(UserError, match=r"cannot be kept in .*\(No space left on device\).*set TMPDIR"):
        main(["index", url, "--out", str(tmp_path / "again.json")])


@pytest.mark.parametrize("damage", ["truncated", "longer", "changed", "empty", "dangling link", "link to it", "pipe"])
def test_whatever_lies_under_the_name_of_a_copy_the_pixels_are_the_same(
    damage: str, data: Callable[[Path], Manifest], tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    right = all_pixels(data(cache))
    for path in cache.glob("*.shard"):
        content = path.read_bytes()
        path.unlink()
        if damage == "dangling link":
            path.symlink_to(tmp_path / "nowhere")
        elif damage == "link to it":
            (tmp_path / path.name).write_bytes(content)
            path.symlink_to(tmp_path / path.name)
        elif damage == "pipe":
            os.mkfifo(path)
        else:
            wrong = content[:700] + bytes([content[700] ^ 4]) + content[701:]
            path.write_bytes(
                {"truncated": content[:-512], "longer": content + bytes(512), "changed": wrong, "empty": b""}[damage]
            )
    assert all(map(np.array_equal, all_pixels(data(cache)), right))


@pytest.mark.parametrize("name", ["part", ".lock"])
@pytest.mark.parametrize("place", ["link", "pipe", "folder"])
def test_a_link_is_never_written_through_and_a_pipe_holds_nobody(
    name: str, place: str, data: Callable[[Path], Manifest], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cache, victim = tmp_path / "cache", tmp_path / "victim"
    victim.write_text("precious")
    manifest = data(cache)
    cache.mkdir()
    path = cache / (".lock" if name == ".lock" else f"{manifest.shard_sha256[0]}.part")
    {"link": lambda: path.symlink_to(victim), "pipe": lambda: os.mkfifo(path), "folder": path.mkdir}[place]()
    assert run_command(lambda argv: len(all_pixels(manifest))) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and str(cache) in told and "set another cache" in told
    assert victim.read_text() == "precious"
