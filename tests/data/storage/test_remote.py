"""Remote shards from a real HTTP server that misbehaves: batches equal to local ones, or one sentence that says why."""

import fcntl
import hashlib
import itertools
import multiprocessing
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from scaling.data.command import main
from scaling.data.format.index import expand_urls, index_shards
from scaling.data.format.load_manifest import load_manifest
from scaling.data.format.manifest import Manifest
from scaling.data.read.loader import EvalLoader, TrainLoader
from scaling.data.read.pixels import PixelSource
from scaling.data.select import order
from scaling.data.select.subset import select_subset
from scaling.data.storage import remote
from scaling.data.storage.integrity import CorruptShardError
from scaling.data.storage.remote import RemoteFiles, RemoteReadError
from scaling.data.tools.validate import validate_data
from scaling.errors import UserError
from scaling.records.run_plan import AccessPlan
from tests.support.http_server import FaultyServer, serve

NUM_SHARDS = 5


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small steps and short pauses, so that a shard takes several reads and a test no time."""
    monkeypatch.setattr(remote, "STEP_BYTES", 20_000)
    monkeypatch.setattr(remote, "MIN_STEP_BYTES", 2_000)
    monkeypatch.setattr(remote, "FIRST_PAUSE_SECONDS", 0.001)


@pytest.fixture
def server(tiny_data: Path) -> Iterator[FaultyServer]:
    with serve(tiny_data) as running:
        yield running


def views(manifest: Manifest, steps: int = 20, **settings: object) -> list[str]:
    """Hashes of the batches of 16 of two epochs and a half, at 64 images of memory so that shards are read."""
    loader = TrainLoader(
        PixelSource(manifest, cache_bytes=0),
        select_subset(manifest, 0.6, 0),
        seed=1,
        batch=16,
        image_size=16,
        augment="inception",
        threads=3,
        **settings,  # type: ignore[arg-type]
    )
    batches = itertools.islice(loader, steps)
    return [hashlib.sha1(part.images.numpy().tobytes() + part.labels.numpy().tobytes()).hexdigest() for part in batches]


@pytest.mark.parametrize("fault", ["", "cut", "503", "short", "429"])
def test_batches_are_the_local_ones_whatever_befalls_the_reads(
    server: FaultyServer, tiny_data: Path, fault: str
) -> None:
    manifest = load_manifest(f"{server.url}/train.json")
    server.faults = [fault, "", ""] * 20
    assert views(manifest) == views(load_manifest(tiny_data / "train.json"))
    assert len(server.faults) < 60


def test_a_server_that_falls_silent_is_asked_again(
    server: FaultyServer, tiny_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "STALL_SECONDS", 0.3)
    manifest = load_manifest(f"{server.url}/train.json")
    server.faults = ["stall", "", "stall"]
    assert views(manifest, steps=3) == views(load_manifest(tiny_data / "train.json"), steps=3)
    assert not server.faults


def test_a_broken_read_goes_on_where_it_ended_in_smaller_steps(server: FaultyServer, tiny_data: Path) -> None:
    files = RemoteFiles({})
    whole = (tiny_data / "train" / "shard-000.tar").read_bytes()
    server.faults = ["", "short", "cut", ""]
    assert b"".join(files.stream(f"{server.url}/train/shard-000.tar", len(whole))) == whole
    assert server.starts[:4] == [0, 20_000, 20_000 + 6_666, 20_000 + 6_666]
    assert all(later - earlier <= 20_000 for earlier, later in itertools.pairwise(server.starts))


def test_trouble_without_end_is_given_up_and_told(server: FaultyServer) -> None:
    manifest = load_manifest(f"{server.url}/train.json")
    server.faults = ["503"] * 1000
    with pytest.raises(RemoteReadError, match=r"shard-00\d\.tar: reading at byte 0 failed 6 times.*503.*start again"):
        views(manifest)


def test_what_cannot_get_better_is_told_at_once(server: FaultyServer, tmp_path: Path) -> None:
    files = RemoteFiles({})
    with pytest.raises(RemoteReadError, match=r"absent\.tar: there is no such object"):
        files.size(f"{server.url}/absent.tar")
    server.faults = ["403"]
    with pytest.raises(RemoteReadError, match=r"refused at the first try.*403.*credentials"):
        list(files.stream(f"{server.url}/train/shard-000.tar", 1000))
    assert server.gets == {"shard-000.tar": 1}


def test_a_server_without_ranges_serves_when_it_sends_the_whole_at_once(server: FaultyServer, tiny_data: Path) -> None:
    """As Python's own http.server does."""
    server.knows_ranges = False
    whole = (tiny_data / "train" / "shard-000.tar").read_bytes()
    files = RemoteFiles({})
    assert b"".join(files.stream(f"{server.url}/train/shard-000.tar", len(whole))) == whole
    with pytest.raises(RemoteReadError, match="ignores byte ranges"):
        list(files.stream(f"{server.url}/train/shard-000.tar", len(whole) - 30_000))


def test_a_server_that_sends_without_end_is_left(server: FaultyServer) -> None:
    server.faults = ["endless"]
    with pytest.raises(RemoteReadError, match="ignores byte ranges"):
        list(RemoteFiles({}).stream(f"{server.url}/train/shard-000.tar", 50_000))
    assert server.num_endless_bytes < 100_000_000  # What fits into the buffers between the two.


@pytest.mark.parametrize("location", ["pipe:touch executed", "ftp://host/a.tar", "file:///a.tar", "s3::http://a/b.tar"])
def test_commands_and_other_protocols_are_refused(
    location: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for read in (lambda: load_manifest(location), lambda: expand_urls([location])):
        with pytest.raises(UserError, match=r"never run|is not read"):
            read()
    assert not list(tmp_path.iterdir())


def test_a_library_that_is_missing_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    import fsspec

    def missing(*args: object, **options: object) -> None:
        raise ImportError("Install gcsfs to access Google Storage")

    monkeypatch.setattr(fsspec, "filesystem", missing)
    with pytest.raises(UserError, match=r"pip install 'scaling-study\[gcs\]'"):
        RemoteFiles({}).size("gs://bucket/a.tar")


def test_options_that_are_not_taken_are_named() -> None:
    with pytest.raises(UserError, match=r"refused at the first try.*must be a mapping.*storage options"):
        RemoteFiles({"http": {"client_kwargs": 3}}).size("http://127.0.0.1:9/a.tar")
    with pytest.raises(UserError, match=r"unexpected keyword argument 'endpoint'.*storage options"):
        RemoteFiles({"s3": {"endpoint": "x"}}).size("s3://bucket/a.tar")


def test_indexing_urls_gives_the_local_manifest(server: FaultyServer, tiny_data: Path, tmp_path: Path) -> None:
    server.faults = ["cut", "503", "", "short"]
    pattern = f"{server.url}/train/shard-{{000..004}}.tar"
    manifest = index_shards(expand_urls([pattern]), tmp_path / "m.json", name="train")
    local = load_manifest(tiny_data / "train.json")
    assert manifest.digest == local.digest and manifest.classes == local.classes
    assert manifest.urls == tuple(f"{server.url}/train/shard-00{number}.tar" for number in range(NUM_SHARDS))
    assert views(load_manifest(tmp_path / "m.json"), steps=3) == views(local, steps=3)


def test_the_commands_take_urls(server: FaultyServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url = f"{server.url}/train.json"
    assert main(["validate", url]) == 0
    assert "200 samples read: no problem" in capsys.readouterr().out
    cache = ["--cache", str(tmp_path / "cache"), "--storage", "http.client_kwargs.trust_env=false"]
    assert main(["subset", url, "--fraction", "0.5", *cache]) == 0
    assert "100 of 200 samples" in capsys.readouterr().out
    assert main(["index", f"{server.url}/val/shard-{{000,001}}.tar", "--out", str(tmp_path / "val.json")]) == 0
    with pytest.raises(UserError, match=r"PROTOCOL\.KEY=VALUE"):
        main(["validate", url, "--storage", "anon=true"])


def test_validation_finds_a_shard_that_is_not_the_indexed_one(server: FaultyServer) -> None:
    manifest = load_manifest(f"{server.url}/train.json")
    other = manifest.urls[0]
    swapped = load_manifest(f"{server.url}/train.json")
    object.__setattr__(swapped, "urls", (other, *manifest.urls[:1], *manifest.urls[2:]))
    kinds = {finding.kind for finding in validate_data(swapped, threads=2).findings}
    assert kinds == {"checksum"}


def test_evaluation_reads_each_shard_once(server: FaultyServer, tiny_data: Path, tmp_path: Path) -> None:
    access = AccessPlan(cache=str(tmp_path / "cache"))

    def hashes(manifest: Manifest) -> list[bytes]:
        loader = EvalLoader(PixelSource(manifest), batch=32, image_size=16, transform="fewshot", threads=2)
        return [part.images.numpy().tobytes() for part in loader]

    sizes = {path.name: path.stat().st_size for path in (tiny_data / "val").iterdir()}
    assert hashes(load_manifest(f"{server.url}/val.json", access)) == hashes(load_manifest(tiny_data / "val.json"))
    assert {name: server.gets[name] for name in sizes} == {name: -(-size // 20_000) for name, size in sizes.items()}


@pytest.mark.parametrize("start", [0, 16 * 10_007])
def test_in_streams_any_start_gives_the_local_batches_and_fetches_each_shard_once(
    server: FaultyServer, tiny_data: Path, monkeypatch: pytest.MonkeyPatch, start: int
) -> None:
    """As a large data set: five streams, windows of eight."""
    monkeypatch.setattr(order, "FULL_SHUFFLE", 0)
    monkeypatch.setattr(order, "NUM_STREAMS", 5)
    monkeypatch.setattr(order, "WINDOW", 8)
    monkeypatch.setattr(remote, "STEP_BYTES", 10**6)
    expected = views(load_manifest(tiny_data / "train.json"), start_position=start)
    assert views(load_manifest(f"{server.url}/train.json"), start_position=start) == expected
    shards = {name: count for name, count in server.gets.items() if name.endswith(".tar")}
    assert 0 < len(shards) <= 3 and set(shards.values()) == {1}


def load_elsewhere(url: str, answers: "multiprocessing.Queue[str]") -> None:
    answers.put(load_manifest(url).digest)


def test_a_forked_process_reads_too(server: FaultyServer) -> None:
    """A launcher that has read a remote manifest forks the processes that train."""
    url = f"{server.url}/train.json"
    digest = load_manifest(url).digest
    context = multiprocessing.get_context("fork")
    answers: multiprocessing.Queue[str] = context.Queue()
    child = context.Process(target=load_elsewhere, args=(url, answers), daemon=True)
    child.start()
    assert answers.get(timeout=30) == digest
    child.join()


def size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


class TestCache:
    """`cache` and `cache_gb` of a study's data."""

    def test_a_second_epoch_and_a_second_run_read_nothing(
        self, server: FaultyServer, tiny_data: Path, tmp_path: Path
    ) -> None:
        access = AccessPlan(cache=str(tmp_path))
        manifest = load_manifest(f"{server.url}/train.json", access)
        first = views(manifest, steps=8)
        gets = sum(server.gets.values())
        shutil.copytree(tiny_data, tmp_path / "copy")
        with serve(tmp_path / "copy") as elsewhere:
            again = load_manifest(f"{elsewhere.url}/train.json", access)
            assert views(again, steps=20)[:8] == first
            assert elsewhere.gets == {"train.json": 1}
        assert views(manifest, steps=20)[:8] == first
        assert sum(server.gets.values()) == gets

    def test_the_bound_holds_at_every_moment_and_the_batches_stay_right(
        self, server: FaultyServer, tiny_data: Path, tmp_path: Path
    ) -> None:
        largest = max(path.stat().st_size for path in (tiny_data / "train").iterdir())
        bound = 2 * largest + 1000
        manifest = load_manifest(f"{server.url}/train.json", AccessPlan(cache=str(tmp_path), cache_gb=bound / 1e9))
        sizes: list[int] = []
        is_done = threading.Event()

        def watch() -> None:
            while not is_done.wait(0.001):
                with (tmp_path / ".lock").open("ab") as stream:
                    fcntl.flock(stream, fcntl.LOCK_EX)  # Nobody makes room or takes it during the look.
                    sizes.append(sum(map(size_of, list(tmp_path.iterdir()))))

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            assert views(manifest) == views(load_manifest(tiny_data / "train.json"))
        finally:
            is_done.set()
            watcher.join()
        assert sizes and max(sizes) <= bound
        assert {path.suffix for path in tmp_path.iterdir()} <= {".shard", ""}

    @pytest.mark.parametrize("damage", ["flipped", "cut", "empty"])
    def test_a_damaged_copy_is_fetched_again(
        self, server: FaultyServer, tiny_data: Path, tmp_path: Path, damage: str
    ) -> None:
        manifest = load_manifest(f"{server.url}/train.json", AccessPlan(cache=str(tmp_path)))
        right = views(manifest, steps=8)
        for path in tmp_path.glob("*.shard"):
            data = path.read_bytes()
            middle = len(data) // 2
            flipped = data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]
            path.write_bytes({"flipped": flipped, "cut": data[:-1024], "empty": b""}[damage])
        gets = sum(server.gets.values())
        assert views(manifest, steps=8) == right
        assert sum(server.gets.values()) > gets

    def test_bytes_that_are_not_the_promised_ones_are_never_kept(self, server: FaultyServer, tmp_path: Path) -> None:
        manifest = load_manifest(f"{server.url}/train.json", AccessPlan(cache=str(tmp_path)))
        server.faults = ["noise"] * 1000
        with pytest.raises(CorruptShardError, match=r"shard-00\d\.tar is not the file that was indexed"):
            views(manifest, steps=2)
        assert not list(tmp_path.glob("*.shard")) and not list(tmp_path.glob("*.part"))

    def test_a_shard_above_the_bound_is_told(self, server: FaultyServer, tmp_path: Path) -> None:
        manifest = load_manifest(f"{server.url}/train.json", AccessPlan(cache=str(tmp_path), cache_gb=1e-6))
        with pytest.raises(UserError, match=r"more than the 1,000 that cache_gb allows"):
            views(manifest, steps=1)
