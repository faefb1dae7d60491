"""Servers that do not answer or answer with something else, and cache folders that cannot be used: one sentence."""

import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from scaling.data.command import main
from scaling.data.format.load_manifest import load_manifest
from scaling.data.format.shard import Shard
from scaling.data.read.pixels import PixelSource
from scaling.data.storage import remote
from scaling.data.storage.remote import RemoteReadError
from scaling.data.storage.shard_cache import ShardCache
from scaling.data.storage.shard_files import LocalTar
from scaling.errors import UserError
from scaling.records.run_plan import AccessPlan
from tests.support.http_server import serve
from tests.support.tiny_study import write_shards

PAGE = b"<!DOCTYPE html><html><body>please log in</body></html>"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "FIRST_PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(remote, "STALL_SECONDS", 0.2)
    monkeypatch.setattr(remote, "MAX_FAILURES", 2)


@pytest.fixture
def silent() -> Iterator[str]:
    """The url of a server that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder with one shard and its manifest."""
    write_shards(tmp_path / "train", 1, seed=0, samples=4)
    assert main(["index", str(tmp_path / "train"), "--out", str(tmp_path / "train.json")]) == 0
    return tmp_path


@pytest.mark.parametrize("name", ["a.tar", "folder/", "*.tar"])
def test_index_gives_up_on_a_server_that_never_answers(silent: str, tmp_path: Path, name: str) -> None:
    started = time.monotonic()
    with pytest.raises(RemoteReadError, match=r"failed 2 times in a row.*TimeoutError"):
        main(["index", f"{silent}/{name}", "--out", str(tmp_path / "m.json")])
    assert time.monotonic() - started < 20


def test_a_web_page_instead_of_a_shard_is_named_by_index(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(PAGE * 30)
    with serve(tmp_path) as server, pytest.raises(UserError, match=r"a\.tar.*begins like a web page"):
        main(["index", f"{server.url}/a.tar", "--out", str(tmp_path / "m.json")])


def test_a_web_page_instead_of_a_shard_is_named_in_training(data: Path) -> None:
    with serve(data) as server:
        manifest = load_manifest(f"{server.url}/train.json")
        (data / "train" / "shard-000.tar").write_bytes(PAGE)
        with pytest.raises(RemoteReadError, match=r"has 54 bytes now, but [\d,]+ when it was indexed.*web page"):
            PixelSource(manifest).get(0, 0)


def test_changed_bytes_under_the_same_name_are_told(data: Path) -> None:
    path = data / "train" / "shard-000.tar"
    with serve(data) as server:
        manifest = load_manifest(f"{server.url}/train.json")
        content = bytearray(path.read_bytes())
        content[600] ^= 1
        path.write_bytes(content)
        with pytest.raises(UserError, match="is not the file that was indexed: its sha256 differs"):
            PixelSource(manifest).get(0, 0)


def test_a_folder_under_a_shards_name_in_the_cache_is_told(data: Path, tmp_path: Path) -> None:
    with serve(data) as server:
        manifest = load_manifest(f"{server.url}/train.json", AccessPlan(cache=str(tmp_path / "cache")))
        (tmp_path / "cache" / f"{manifest.shard_sha256[0]}.shard").mkdir(parents=True)
        with pytest.raises(UserError, match=r"is no copy of a shard and cannot be replaced.*remove it"):
            PixelSource(manifest).get(0, 0)
        (tmp_path / "cache" / f"{manifest.shard_sha256[0]}.shard").rmdir()
        (tmp_path / "cache" / f"{manifest.shard_sha256[0]}.part").mkdir()
        with pytest.raises(UserError, match=r"cache .* cannot be written.*set another cache"):
            PixelSource(manifest).get(0, 0)


def test_a_file_where_the_cache_should_be_is_told(data: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("")
    with serve(data) as server, pytest.raises(UserError, match="cannot be made"):
        manifest = load_manifest(f"{server.url}/train.json", AccessPlan(cache=str(tmp_path / "cache")))
        PixelSource(manifest).get(0, 0)


@pytest.mark.parametrize("sha256", ["../victim", "/etc/passwd", "a" * 63, "A" * 64, "a" * 64 + "\n"])
def test_a_checksum_that_is_none_never_becomes_a_file_name(tmp_path: Path, sha256: str) -> None:
    victim = tmp_path / "victim.shard"
    victim.write_text("precious")
    cache = ShardCache(tmp_path / "cache", 1000)
    with pytest.raises(UserError, match="is not 64 of the characters"):
        cache.get(sha256, 3, "url", lambda stream: None)
    assert victim.read_text() == "precious"


def test_a_manifest_with_such_a_checksum_is_refused(data: Path) -> None:
    body = json.loads((data / "train.json").read_text())
    body["shards"]["sha256"][0] = "../victim"
    (data / "train.json").write_text(json.dumps(body))
    with pytest.raises(UserError, match=r"shards\.sha256: '\.\./victim' is not 64"):
        load_manifest(data / "train.json")


def test_a_copy_that_the_cache_removes_at_the_worst_moment_is_fetched_again(tmp_path: Path) -> None:
    write_shards(tmp_path / "store", 1, seed=0, samples=5)
    content = (tmp_path / "store" / "shard-000.tar").read_bytes()
    copy, fetched = tmp_path / "copy", []

    def fetch() -> Path:
        fetched.append(copy)
        if len(fetched) > 1:  # The first copy is gone before it is opened.
            copy.write_bytes(content)
        return copy

    tar = LocalTar("http://store/shard-000.tar", fetch)
    copy.unlink()  # And this one before it is indexed.
    shard = Shard("http://store/shard-000.tar", tar)
    copy.unlink()
    assert len(shard) == 5 and shard.read_image(0) and len(fetched) == 4
