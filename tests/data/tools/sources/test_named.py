"""Data sets of other libraries, really stored and read back by them: nothing lost, encoded bytes kept."""

import hashlib
import io
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from PIL import Image
from torchvision.datasets import FakeData

from scaling.data.command import main
from scaling.data.format.load_manifest import load_manifest
from scaling.data.format.manifest import Manifest
from scaling.data.format.shard import Shard
from scaling.data.read.images.decode import decode_rgb
from scaling.data.tools.build import BuildSettings, build_shards
from scaling.data.tools.sources.find import find_source
from scaling.data.tools.sources.source import SourceOptions
from scaling.errors import UserError

NAMES = ("ant", "bee", "cat")
RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def no_shared_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def image(kind: str = "JPEG") -> bytes:
    stream = io.BytesIO()
    Image.fromarray(RNG.integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(stream, kind)
    return stream.getvalue()


IMAGES = [image("JPEG" if number % 2 else "PNG") for number in range(50)]


def dataset(labels: Sequence[Any], feature: Any) -> datasets.Dataset:
    rows = {"image": [{"bytes": encoded, "path": None} for encoded in IMAGES], "label": labels}
    features = datasets.Features({"image": datasets.Image(), "label": feature})
    return datasets.Dataset.from_dict(rows, features=features)


def build(source: str, out: Path, **columns: str) -> Manifest:
    settings = BuildSettings(shuffle_seed=0, shard_samples=12, max_side=None)
    return build_shards(
        find_source(source, SourceOptions(**columns)), out, settings, name="built", origin={}, threads=2
    )


def samples(manifest: Manifest) -> Counter[tuple[bytes, tuple[str, ...]]]:
    """Encoded images with their class names."""
    shards = [Shard(manifest.shard_location(number)) for number in range(len(manifest.urls))]
    read = [shard.read(index) for shard in shards for index in range(len(shard))]
    return Counter((encoded, tuple(manifest.classes[label] for label in labels)) for encoded, labels in read)


@pytest.mark.parametrize(
    ("labels", "feature", "names", "kind"),
    [
        (
            [n % 3 for n in range(50)],
            datasets.ClassLabel(names=list(NAMES)),
            [(NAMES[n % 3],) for n in range(50)],
            "single",
        ),
        ([n % 4 for n in range(50)], datasets.Value("int64"), [(str(n % 4),) for n in range(50)], "single"),
        ([NAMES[n % 3] for n in range(50)], datasets.Value("string"), [(NAMES[n % 3],) for n in range(50)], "single"),
        (
            [list(range(n % 4)) for n in range(50)],
            datasets.Sequence(datasets.ClassLabel(names=list(NAMES))),
            [NAMES[: n % 4] for n in range(50)],
            "multi",
        ),
    ],
    ids=["classes", "numbers", "names", "sets"],
)
def test_a_stored_data_set_keeps_bytes_and_labels(
    labels: Sequence[Any], feature: Any, names: Sequence[tuple[str, ...]], kind: str, tmp_path: Path
) -> None:
    dataset(labels, feature).save_to_disk(str(tmp_path / "stored"))
    manifest = build(f"hf:{tmp_path / 'stored'}", tmp_path / "out")
    assert manifest.label_type == kind
    assert samples(manifest) == Counter(zip(IMAGES, map(tuple, names), strict=True))


def test_splits_and_folders_of_parquet(tmp_path: Path) -> None:
    whole = dataset([n % 3 for n in range(50)], datasets.ClassLabel(names=list(NAMES)))
    datasets.DatasetDict({"train": whole, "val": whole.select(range(7))}).save_to_disk(str(tmp_path / "dict"))
    assert build(f"hf:{tmp_path / 'dict'}:val", tmp_path / "val").num_samples == 7
    assert build(f"hf:{tmp_path / 'dict'}", tmp_path / "train").num_samples == 50
    (tmp_path / "folder").mkdir()
    whole.to_parquet(str(tmp_path / "folder" / "train.parquet"))
    from_parquet = build(f"hf:{tmp_path / 'folder'}:train", tmp_path / "parquet")
    assert from_parquet.digest == build(f"hf:{tmp_path / 'folder'}", tmp_path / "again").digest
    assert from_parquet.classes == NAMES and sum(samples(from_parquet).values()) == 50


def test_a_build_is_not_continued_from_other_data(tmp_path: Path) -> None:
    feature = datasets.ClassLabel(names=list(NAMES))
    dataset([0] * 50, feature).save_to_disk(str(tmp_path / "one"))
    dataset([1] * 50, feature).save_to_disk(str(tmp_path / "two"))

    def stop(done: int, total: int, samples: int) -> None:
        raise KeyboardInterrupt

    settings = BuildSettings(0, 12, None)
    for name, reason in (("one", KeyboardInterrupt), ("two", UserError)):
        with pytest.raises(reason):
            source = find_source(f"hf:{tmp_path / name}")
            build_shards(source, tmp_path / "out", settings, name="n", origin={}, progress=stop)
    assert build_shards(
        find_source(f"hf:{tmp_path / 'one'}"), tmp_path / "out", settings, name="n", origin={}
    ).num_samples == 50  # fmt: skip


def test_torchvision_pixels_are_kept_without_loss(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = "torchvision:FakeData?size=30&image_size=[3, 18, 22]&num_classes=5"
    assert main(["build", source, str(tmp_path / "out"), "--shard-samples", "8"]) == 0
    manifest = load_manifest(tmp_path / "out" / "manifest.json")
    expected = Counter(
        (hashlib.sha1(np.asarray(image).tobytes()).hexdigest(), (str(target),))
        for image, target in FakeData(30, (3, 18, 22), 5)
    )
    found = Counter(
        (hashlib.sha1(decode_rgb(encoded).tobytes()).hexdigest(), names)
        for encoded, names in samples(manifest).elements()
    )
    assert found == expected
    assert manifest.origin["source"] == source


def test_torchvision_folders_keep_their_files(tmp_path: Path) -> None:
    for number, encoded in enumerate(IMAGES):
        folder = tmp_path / "tree" / NAMES[number % 3]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}.{'jpg' if number % 2 else 'png'}").write_bytes(encoded)
    manifest = build(f"torchvision:ImageFolder?root={tmp_path / 'tree'}", tmp_path / "out")
    assert samples(manifest) == Counter((encoded, (NAMES[n % 3],)) for n, encoded in enumerate(IMAGES))


def test_mistakes_are_told_with_a_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = {name: [{"bytes": IMAGES[0], "path": None}] for name in ("one", "two")} | {"label": [0], "labels": [0]}
    features = {"one": datasets.Image(), "two": datasets.Image(), "label": datasets.Value("int8")}
    stored = datasets.Dataset.from_dict(rows, features=datasets.Features(features | {"labels": datasets.Value("int8")}))
    stored.save_to_disk(str(tmp_path / "stored"))
    name = f"hf:{tmp_path / 'stored'}"
    for source, columns, told in [
        (name, {}, "several columns would do, one, two; choose one with --image-column"),
        (name, {"image_column": "one"}, "label, labels; choose one with --label-column"),
        (name, {"image_column": "ones", "label_column": "label"}, "no such column; did you mean 'one'"),
        (f"hf:{tmp_path / 'absent'}", {}, "cannot be loaded"),
        ("torchvision:CIFAR11", {}, "no such data set; did you mean 'CIFAR10'"),
        ("torchvision:FakeData?sise=3", {}, "sise"),
        (f"torchvision:CIFAR10?root={tmp_path}", {}, "not found"),
    ]:
        with pytest.raises(UserError, match=told):
            find_source(source, SourceOptions(**columns))
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UserError, match=r"pip install 'scaling-study\[datasets\]'"):
        find_source("hf:any")
