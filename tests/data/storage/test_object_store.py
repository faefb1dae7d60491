"""Shards in a real S3-compatible server: indexed, validated and trained on by `s3://` urls, two processes sharing one
cache, with access options from the command line or the study and credentials from the environment."""

import hashlib
import itertools
import multiprocessing
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer

from scaling.data.command import main
from scaling.data.format.load_manifest import load_manifest
from scaling.data.format.manifest import Manifest
from scaling.data.read.loader import TrainLoader
from scaling.data.read.pixels import PixelSource
from scaling.data.select.subset import select_subset
from scaling.data.storage import remote
from scaling.data.storage.remote import RemoteReadError
from scaling.plan.planner import Planner
from scaling.records.run_plan import AccessPlan
from scaling.spec.study import load_study

BUCKET = "photos"


@pytest.fixture(scope="module")
def endpoint(tiny_data: Path) -> Iterator[str]:
    """The url of a server whose bucket holds the tiny data set below `tiny/`."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "any")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "any")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        client = boto3.client("s3", endpoint_url=f"http://{host}:{port}")
        client.create_bucket(Bucket=BUCKET)
        for path in tiny_data.rglob("*.*"):
            client.upload_file(str(path), BUCKET, f"tiny/{path.relative_to(tiny_data)}")
        yield f"http://{host}:{port}"
    server.stop()


def views(manifest: Manifest, steps: int) -> list[str]:
    loader = TrainLoader(
        PixelSource(manifest),
        select_subset(manifest, 0.6, 0),
        seed=1,
        batch=16,
        image_size=16,
        augment="inception",
        threads=3,
    )
    return [hashlib.sha1(part.images.numpy().tobytes()).hexdigest() for part in itertools.islice(loader, steps)]


def test_a_bucket_is_indexed_validated_and_trained_on(
    endpoint: str, tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    storage = ["--storage", f"s3.endpoint_url={endpoint}"]
    for pattern in (f"s3://{BUCKET}/tiny/train/", f"s3://{BUCKET}/tiny/train/shard-*.tar"):
        assert main(["index", pattern, "--out", str(tmp_path / "m.json"), *storage]) == 0
    access = AccessPlan(storage={"s3": {"endpoint_url": endpoint}})
    manifest = load_manifest(tmp_path / "m.json", access)
    local = load_manifest(tiny_data / "train.json")
    assert manifest.digest == local.digest and manifest.urls[0] == f"s3://{BUCKET}/tiny/train/shard-000.tar"
    assert views(manifest, 10) == views(local, 10)
    assert main(["validate", f"s3://{BUCKET}/tiny/val.json", *storage]) == 0
    assert "80 samples read: no problem" in capsys.readouterr().out


def test_a_study_says_where_its_data_is_and_that_is_not_its_identity(
    endpoint: str, tiny_data: Path, tmp_path: Path
) -> None:
    (tmp_path / "sweep.yaml").write_text(
        f"study: s\ndata: {{root: {tiny_data}, train: train.json, val: val.json}}\n"
        "protocol: {kind: constant_steps, steps: 3, batch: 4}\ngrid: {model: [mixer-laptop-32px]}\n"
        "evals:\n  - {kind: fewshot, support: train.json, test: val.json, shots: [2]}\n"
    )
    remote_options = (
        f"data.root=s3://{BUCKET}/tiny",
        f"data.storage.s3.endpoint_url={endpoint}",
        f"data.cache={tmp_path / 'cache'}",
        "data.cache_gb=0.5",
    )
    plans = []
    for options in ((), remote_options):
        study, document = load_study(tmp_path / "sweep.yaml", options)
        plans += Planner(study, document).plan()
    here, there = plans
    assert here.run_id == there.run_id and here.evals[0].digest() == there.evals[0].digest()
    assert there.train.manifest == f"s3://{BUCKET}/tiny/train.json"
    for source in (there.train, there.val, there.evals[0].sources["support"]):
        assert source.access.cache_gb == 0.5 and source.access.storage == {"s3": {"endpoint_url": endpoint}}


def test_no_such_bucket_and_no_such_object_are_told_at_once(endpoint: str, caplog: pytest.LogCaptureFixture) -> None:
    access = AccessPlan(storage={"s3": {"endpoint_url": endpoint}})
    for location in ("s3://nowhere/m.json", f"s3://{BUCKET}/none.json"):
        with pytest.raises(Exception, match=rf"{location}: there is no such object"):
            load_manifest(location, access)
    assert not [record for record in caplog.records if record.name == remote.__name__]


def test_a_server_that_is_not_there_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "FIRST_PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(remote, "MAX_FAILURES", 2)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "any")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "any")
    options = {"endpoint_url": "http://127.0.0.1:9", "config_kwargs": {"retries": {"max_attempts": 0}}}
    with pytest.raises(RemoteReadError, match=r"failed 2 times in a row.*127\.0\.0\.1:9.*reached"):
        remote.RemoteFiles({"s3": options}).size("s3://bucket/a.tar")


def read_in_process(manifest_path: str, access: AccessPlan, answers: "multiprocessing.Queue[list[str]]") -> None:
    answers.put(views(load_manifest(manifest_path, access), 12))


def test_processes_share_a_cache_that_holds_two_shards(endpoint: str, tiny_data: Path, tmp_path: Path) -> None:
    largest = max(path.stat().st_size for path in (tiny_data / "train").iterdir())
    access = AccessPlan(
        storage={"s3": {"endpoint_url": endpoint}}, cache=str(tmp_path), cache_gb=(2 * largest + 1000) / 1e9
    )
    context = multiprocessing.get_context("spawn")
    answers: multiprocessing.Queue[list[str]] = context.Queue()
    readers = [
        context.Process(target=read_in_process, args=(f"s3://{BUCKET}/tiny/train.json", access, answers))
        for _ in range(2)
    ]
    for reader in readers:
        reader.start()
    expected = views(load_manifest(tiny_data / "train.json"), 12)
    assert [answers.get(timeout=120) for _ in readers] == [expected, expected]
    for reader in readers:
        reader.join()
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 2 * largest + 1000
