"""Manifests: round trip, identity by content, size, and what a bad one is told."""

import json
import time
from pathlib import Path

import pytest

from scaling.data.format.index import expand_urls
from scaling.data.format.load_manifest import load_manifest
from scaling.data.format.manifest import build_manifest, declare_manifest
from scaling.data.read.pixels import PixelSource
from scaling.data.select.subset import select_subset
from scaling.errors import UserError


def test_round_trip_and_relative_urls_move_with_the_manifest(tiny_data: Path, tmp_path: Path) -> None:
    manifest = load_manifest(tiny_data / "train.json")
    assert manifest.urls[0] == "train/shard-000.tar"
    moved = tmp_path / "moved.json"
    moved.write_text((tiny_data / "train.json").read_text())
    assert load_manifest(moved).digest == manifest.digest
    assert load_manifest(moved).shard_location(0) == str(tmp_path / "train" / "shard-000.tar")


def test_the_digest_names_content_and_not_place(tmp_path: Path) -> None:
    def digest(folder: str = "/a", url: str = "x.tar", sha: str = "11", classes: tuple[str, ...] = ("a", "b")) -> str:
        return build_manifest(
            name="n",
            label_type="single",
            classes=classes,
            folder=Path(folder),
            urls=[url],
            num_samples=[5],
            num_bytes=[1],
            sha256=[sha],
            origin={},
        ).digest

    assert digest() == digest(folder="/b", url="y.tar")
    assert len({digest(), digest(sha="22"), digest(classes=("a", "c"))}) == 3


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (lambda body: body.pop("classes"), "classes: is missing"),
        (lambda body: body.update(schema=9), "schema is 9"),
        (lambda body: body.update(label_type="many"), "'many'"),
        (lambda body: body.update(num_samples=7), "num_samples: 7"),
        (lambda body: body["shards"]["sha256"].__setitem__(0, "0" * 64), "was edited"),
        (lambda body: body["shards"]["url"].pop(), "different lengths"),
    ],
)
def test_a_bad_manifest_is_told_with_file_field_and_way_out(tiny_data: Path, tmp_path: Path, edit, reason: str) -> None:
    body = json.loads((tiny_data / "train.json").read_text())
    edit(body)
    path = tmp_path / "bad.json"
    path.write_text(json.dumps(body))
    with pytest.raises(UserError, match=rf"bad\.json.*{reason}.*scaling\.data index"):
        load_manifest(path)


def test_missing_and_garbled_files(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.json cannot be read"):
        load_manifest(tmp_path / "none.json")
    (tmp_path / "x.json").write_text("{")
    with pytest.raises(UserError, match="not JSON"):
        load_manifest(tmp_path / "x.json")


def test_a_declared_data_set_can_be_planned_and_not_trained(tmp_path: Path) -> None:
    path = tmp_path / "jft.json"
    body = {"schema": 1, "name": "JFT-300M", "label_type": "multi", "declared": True}
    path.write_text(json.dumps(body | {"num_samples": 302_000_000, "num_classes": 18291}))
    manifest = load_manifest(path)
    assert [select_subset(manifest, f, 0).num_samples for f in (0.03, 0.1, 0.3, 1.0)] == [
        9_060_000,
        30_200_000,
        90_600_000,
        302_000_000,
    ]
    assert manifest.digest == declare_manifest("JFT-300M", "multi", 18291, 302_000_000, tmp_path).digest
    with pytest.raises(UserError, match="declared by count only"):
        PixelSource(manifest)


def test_three_hundred_thousand_shards_stay_light(tmp_path: Path) -> None:
    """A generous bound on a noisy machine: seconds, not minutes; the measured figure is about one second."""
    count = 300_000
    manifest = build_manifest(
        name="large",
        label_type="multi",
        classes=["a"],
        folder=tmp_path,
        urls=[f"train-{number:06d}.tar" for number in range(count)],
        num_samples=[1000] * count,
        num_bytes=[10**8] * count,
        sha256=[f"{number:064x}" for number in range(count)],
        origin={},
    ).save(tmp_path / "m.json")
    started = time.process_time()
    loaded = load_manifest(tmp_path / "m.json")
    subset = select_subset(loaded, 0.3, 0)
    assert time.process_time() - started < 15
    assert loaded.digest == manifest.digest
    assert subset.num_samples == 90_000_000
    assert (tmp_path / "m.json").stat().st_size < 60e6


def test_shard_names_expand(tmp_path: Path) -> None:
    for number in range(12):
        (tmp_path / f"s-{number:03d}.tar").touch()
    (tmp_path / "notes.txt").touch()
    everything = expand_urls([str(tmp_path)])
    assert [Path(location).name for location in everything] == [f"s-{number:03d}.tar" for number in range(12)]
    assert expand_urls([f"{tmp_path}/s-{{003..005}}.tar"]) == everything[3:6]
    assert expand_urls([f"{tmp_path}/s-{{000,011}}.tar"]) == [everything[0], everything[11]]
    assert expand_urls([f"{tmp_path}/s-01?.tar"]) == everything[10:]
    with pytest.raises(UserError, match="named twice"):
        expand_urls([str(tmp_path), f"{tmp_path}/s-000.tar"])
    with pytest.raises(UserError, match="no shards"):
        expand_urls([f"{tmp_path}/t-*.tar"])
