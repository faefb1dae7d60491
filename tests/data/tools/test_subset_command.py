"""`subset`: its figures are those of the samples that webdataset reads from what it writes."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from webdataset import TarWriter, WebDataset

from scaling.data.command import main
from scaling.data.format.index import expand_urls, index_shards
from scaling.data.format.load_manifest import load_manifest
from scaling.data.format.manifest import declare_manifest
from scaling.data.storage.integrity import CorruptSampleError
from scaling.errors import UserError
from tests.support.tiny_study import encode

NUM_CLASSES = 130
FRACTIONS = (0.05, 0.3, 1.0)


@pytest.fixture(scope="module")
def tail(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """300 tiny images in seven uneven shards with 0 to 3 labels from a long tail of classes."""
    folder = tmp_path_factory.mktemp("tail")
    generator = np.random.default_rng(3)
    chances = 1 / np.arange(1, NUM_CLASSES + 1)
    for shard, count in enumerate((60, 10, 80, 37, 63, 1, 49)):
        with TarWriter(str(folder / f"{shard}.tar")) as writer:
            for number in range(count):
                size = int(generator.integers(4))
                labels = generator.choice(NUM_CLASSES, size, replace=False, p=chances / chances.sum()).tolist()
                image = encode(generator.integers(0, 256, (2, 2, 3), np.uint8))
                label = json.dumps({"labels": labels}).encode()
                writer.write({"__key__": f"{shard}-{number}", "png": image, "json": label})
    index_shards(
        expand_urls([str(folder)]),
        folder / "manifest.json",
        name="tail",
        classes=[f"class {number}" for number in range(NUM_CLASSES)],
        label_type="multi",
    )
    return folder / "manifest.json"


def samples_by_webdataset(folder: Path) -> list[tuple[bytes, tuple[int, ...]]]:
    urls = [str(path) for path in sorted(folder.glob("*.tar"))]
    return [(row["png"], tuple(json.loads(row["json"])["labels"])) for row in WebDataset(urls, shardshuffle=False)]


def facts_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert main(["subset", *arguments, "--json"]) == 0
    facts: dict[str, Any] = json.loads(capsys.readouterr().out)
    return facts


def test_the_figures_are_those_of_the_written_samples(
    tail: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    larger: Counter[tuple[bytes, tuple[int, ...]]] = Counter(samples_by_webdataset(tail.parent))
    for fraction in reversed(FRACTIONS):
        out = tmp_path / str(fraction)
        facts = facts_of(capsys, str(tail), "--fraction", str(fraction), "--seed", "2", "--write", str(out))
        samples = samples_by_webdataset(out)
        sizes = Counter(label for _, labels in samples for label in labels)
        assert facts["num_samples"] == len(samples) == round(fraction * 300)
        assert facts["num_samples_of_data_set"] == 300
        assert facts["num_labels"] == sizes.total()
        assert facts["num_classes_left"] == len(sizes)
        assert facts["num_classes_below"] == {
            str(limit): sum(sizes[number] < limit for number in range(NUM_CLASSES)) for limit in (1, 20, 100, 1000)
        }
        assert Counter(samples) <= larger, "a subset is not inside the next larger one"
        larger = Counter(samples)
        written, original = load_manifest(out / "manifest.json"), load_manifest(tail)
        assert (written.classes, written.label_type) == (original.classes, original.label_type)
        assert written.origin["of"] == original.digest
        assert (written.origin["fraction"], written.origin["seed"]) == (fraction, 2)


def test_the_table_has_the_same_figures(tail: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = (str(tail), "--fraction", "0.3", "--seed", "2")
    facts = facts_of(capsys, *arguments)
    assert main(["subset", *arguments]) == 0
    text = capsys.readouterr().out
    assert "90 of 300 samples" in text and facts["digest"] in text
    assert f"{facts['num_labels'] / 90:.2f} labels an image; {facts['num_classes_left']} of 130 classes left" in text
    for limit, num in facts["num_classes_below"].items():
        row = ["fewer", "than", f"{int(limit):,}", str(num), f"{num / 130:.1%}"]
        assert row in [line.split() for line in text.splitlines()]


def test_a_label_without_a_class_is_told_by_name(tmp_path: Path) -> None:
    """A negative one would otherwise count for the last class."""
    with TarWriter(str(tmp_path / "a.tar")) as writer:
        writer.write({"__key__": "odd", "png": encode(np.zeros((2, 2, 3), np.uint8)), "json": b"[11]"})
    manifest = tmp_path / "manifest.json"
    index_shards([str(tmp_path / "a.tar")], manifest, name="odd", label_type="multi")
    tar = tmp_path / "a.tar"
    tar.write_bytes(tar.read_bytes().replace(b"[11]", b"[-1]"))
    with pytest.raises(CorruptSampleError, match=r"a\.tar: sample 'odd' has the labels \[-1\]"):
        main(["subset", str(manifest), "--fraction", "1"])


def test_a_declared_data_set_has_a_count_and_nothing_to_write(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "jft.json"
    declare_manifest("jft", "multi", 18_291, 302_982_257, tmp_path).save(path)
    facts = facts_of(capsys, str(path), "--fraction", "0.03")
    assert facts["num_samples"] == round(0.03 * 302_982_257)
    assert "num_classes_left" not in facts
    with pytest.raises(UserError, match="declared by count only; it has no samples"):
        main(["subset", str(path), "--fraction", "0.03", "--write", str(tmp_path / "out")])
