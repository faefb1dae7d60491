"""Building shards: nothing lost or changed, random order, restart, and refusal to mix two builds."""

import csv
import hashlib
import itertools
import re
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image
from scipy import stats
from webdataset import WebDataset

from scaling.data.command import main
from scaling.data.format.load_manifest import load_manifest
from scaling.data.format.manifest import Manifest
from scaling.data.format.shard import Shard
from scaling.data.read.images.decode import decode_rgb
from scaling.data.select.subset import select_subset
from scaling.data.tools import build as build_module
from scaling.data.tools import shuffle_lines
from scaling.data.tools.build import BuildSettings, build_shards
from scaling.data.tools.shuffle_lines import shuffled
from scaling.data.tools.sources.find import find_source
from scaling.errors import UserError

CLASSES = ("ant", "bee", "cat")


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """90 different images in class folders, some below another folder, in three formats; one text file."""
    root = tmp_path_factory.mktemp("tree")
    for number in range(90):
        folder = root / CLASSES[number % 3] / ("deep" if number % 2 else ".")
        folder.mkdir(parents=True, exist_ok=True)
        pixels = np.full((20, 30, 3), number, np.uint8)
        pixels[5:9, 5:9] = 255 - number
        extension = ("jpg", "png", "webp")[number // 3 % 3]
        Image.fromarray(pixels).save(folder / f"{number}.{extension}")
    (root / "ant" / "notes.txt").write_text("no image")
    return root


def contents(manifest: Manifest) -> list[tuple[bytes, list[int]]]:
    """Every sample in canonical order."""
    shards = [Shard(manifest.shard_location(number)) for number in range(len(manifest.urls))]
    return [shard.read(index) for shard in shards for index in range(len(shard))]


def names(manifest: Manifest) -> list[tuple[str, tuple[str, ...]]]:
    """Samples as (hash of the encoded image, class names)."""
    return [
        (hashlib.sha1(encoded).hexdigest(), tuple(manifest.classes[label] for label in labels))
        for encoded, labels in contents(manifest)
    ]


def files_of(tree: Path) -> Counter[tuple[str, tuple[str, ...]]]:
    return Counter(
        (hashlib.sha1(path.read_bytes()).hexdigest(), (path.relative_to(tree).parts[0],))
        for path in tree.rglob("*.*")
        if path.suffix != ".txt"
    )


def build(source: Path, out: Path, seed: int = 0, shard_samples: int = 20, max_side: int | None = None) -> Manifest:
    return build_shards(
        find_source(source), out, BuildSettings(seed, shard_samples, max_side), name="built", origin={}, threads=2
    )


def test_a_tree_becomes_shards_with_every_byte_and_label(tree: Path, tmp_path: Path) -> None:
    manifest = build(tree, tmp_path / "out")
    assert manifest.classes == CLASSES and manifest.label_type == "single"
    assert manifest.shard_samples.tolist() == [20, 20, 20, 20, 10]
    assert Counter(names(manifest)) == files_of(tree)
    loaded = load_manifest(tmp_path / "out" / "manifest.json")
    assert loaded.digest == manifest.digest
    assert {path.name for path in (tmp_path / "out").iterdir()} == {*manifest.urls, "manifest.json"}


def test_webdataset_reads_what_we_wrote(tree: Path, tmp_path: Path) -> None:
    manifest = build(tree, tmp_path / "out")
    urls = [manifest.shard_location(number) for number in range(len(manifest.urls))]
    theirs = [
        (sample.get("jpg") or sample.get("png") or sample["webp"], [int(sample["cls"])])
        for sample in WebDataset(urls, shardshuffle=False)
    ]
    assert theirs == contents(manifest)


def test_the_order_is_random_and_a_function_of_the_seed(tree: Path, tmp_path: Path) -> None:
    first, again, other = (names(build(tree, tmp_path / name, seed)) for name, seed in (("a", 0), ("b", 0), ("c", 1)))
    assert first == again
    assert first != other and Counter(first) == Counter(other)


def test_lines_are_shuffled_uniformly(monkeypatch: pytest.MonkeyPatch) -> None:
    """All 24 orders of four lines equally often: chi-square at 23 degrees of freedom."""
    monkeypatch.setattr(shuffle_lines, "NUM_SPOOLS", 3)
    lines = [b"0", b"1", b"2", b"3"]
    counts = Counter(tuple(shuffled(lines, seed)) for seed in range(2400))
    assert set(counts) == set(itertools.permutations(lines))
    assert stats.chisquare(list(counts.values())).pvalue > 1e-3


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_table_gives_label_sets(tree: Path, tmp_path: Path, kind: str) -> None:
    paths = [str(path) for path in sorted(tree.rglob("*.png"))]
    labels = [["red", "tall"], ["blue"], []] * (len(paths) // 3)
    if kind == "csv":
        with (tmp_path / "table.csv").open("w", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(["path", "labels"])
            writer.writerows((path, "|".join(row)) for path, row in zip(paths, labels, strict=True))
    else:
        table = pyarrow.table({"path": paths, "labels": labels, "caption": ["x"] * len(paths)})
        pyarrow.parquet.write_table(table, tmp_path / "table.parquet")
    manifest = build(tmp_path / f"table.{kind}", tmp_path / "out")
    assert manifest.label_type == "multi" and manifest.classes == ("blue", "red", "tall")
    hashes = [hashlib.sha1(Path(path).read_bytes()).hexdigest() for path in paths]
    assert Counter(names(manifest)) == Counter(zip(hashes, map(tuple, labels), strict=True))


def test_other_shards_are_shuffled_anew_and_subsets_written_exactly(tree: Path, tmp_path: Path) -> None:
    first = build(tree, tmp_path / "first")
    again = build(tmp_path / "first" / "manifest.json", tmp_path / "again", seed=5)
    assert names(again) != names(first) and Counter(names(again)) == Counter(names(first))
    arguments = [str(tmp_path / "first" / "manifest.json"), "--fraction", "0.3", "--seed", "4"]
    assert main(["subset", *arguments, "--write", str(tmp_path / "part")]) == 0
    part = load_manifest(tmp_path / "part" / "manifest.json")
    subset = select_subset(first, 0.3, 4)
    shards = {number: Shard(first.shard_location(number)) for number in subset.shard_ids.tolist()}
    assert contents(part) == [
        shards[number].read(index)
        for number, count in zip(subset.shard_ids.tolist(), subset.counts.tolist(), strict=True)
        for index in range(count)
    ]


def test_a_stopped_build_goes_on_and_ends_the_same(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = build(tree, tmp_path / "whole")
    reads = Counter[str]()
    original = build_module.image_extension

    def failing(encoded: bytes, reference: bytes) -> str:
        reads[reference.decode()] += 1
        if len(reads) == 70:
            raise KeyboardInterrupt
        return original(encoded, reference)

    monkeypatch.setattr(build_module, "image_extension", failing)
    with pytest.raises(KeyboardInterrupt):
        build(tree, tmp_path / "out")
    with (tmp_path / "out" / build_module.JOURNAL).open("a") as stream:
        stream.write('{"name": "shard-0000')  # A power cut in the middle of a row.
    with pytest.raises(UserError, match="unfinished build from another source"):
        build(tree, tmp_path / "out", seed=1)
    reads.clear()
    assert build(tree, tmp_path / "out").digest == whole.digest
    assert len(reads) <= 90 - 20, "finished shards were written again"


def test_a_flipped_bit_in_the_journal_is_no_number_of_the_manifest(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counts, checksums and classes of the shards that are complete stand there until the manifest is written."""
    whole = build(tree, tmp_path / "whole")
    (whole_text,) = (tmp_path / "whole").glob("*.json")
    with monkeypatch.context() as patch:
        patch.setattr(build_module, "build_manifest", lambda **columns: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            build(tree, tmp_path / "out")
    journal = tmp_path / "out" / build_module.JOURNAL
    content = journal.read_bytes()
    begin = content.index(b"\n") + 1
    for bit in range(8 * begin, 8 * len(content), 8 * 37 + 3):
        shutil.rmtree(tmp_path / "copy", ignore_errors=True)
        shutil.copytree(tmp_path / "out", tmp_path / "copy")
        changed = bytearray(content)
        changed[bit // 8] ^= 1 << bit % 8
        (tmp_path / "copy" / journal.name).write_bytes(changed)
        assert build(tree, tmp_path / "copy").digest == whole.digest
        assert (tmp_path / "copy" / whole_text.name).read_text() == whole_text.read_text()


def test_large_images_are_made_smaller_on_request(tree: Path, tmp_path: Path) -> None:
    manifest = build(tree, tmp_path / "out", max_side=15)
    assert {decode_rgb(encoded).shape for encoded, _ in contents(manifest)} == {(10, 15, 3)}
    assert manifest.origin["max_side"] == 15


def test_small_images_keep_their_bytes_beside_large_ones(tree: Path, tmp_path: Path) -> None:
    assert names(build(tree, tmp_path / "wide", max_side=30)) == names(build(tree, tmp_path / "plain"))


def test_the_manifest_describes_the_files(tree: Path, tmp_path: Path) -> None:
    manifest = build(tree, tmp_path / "out")
    for number, (samples, size, digest) in enumerate(
        zip(manifest.shard_samples, manifest.shard_bytes, manifest.shard_sha256, strict=True)
    ):
        path = Path(manifest.shard_location(number))
        assert hashlib.sha256(path.read_bytes()).hexdigest() == digest
        assert (path.stat().st_size, len(Shard(str(path)))) == (size, samples)
    assert manifest.num_samples == 90


def test_progress_counts_samples_and_tells_their_rate(
    tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[tuple[int, int, int]] = []
    settings = BuildSettings(0, 20, None)
    build_shards(
        find_source(tree), tmp_path / "a", settings, name="n", origin={}, progress=lambda *counts: seen.append(counts)
    )
    assert seen == [(done, 90, done) for done in (20, 40, 60, 80, 90)]
    assert main(["build", str(tree), str(tmp_path / "b"), "--shard-samples", "20"]) == 0
    assert re.fullmatch(r"90/90 samples, [\d,]+ samples/s\n", capsys.readouterr().err)


def test_bad_sources_are_told(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no class folders"):
        build(tmp_path / "empty", tmp_path / "out")
    (tmp_path / "t.csv").write_text("file,labels\na.jpg,3\n")
    with pytest.raises(UserError, match="column 'path' is missing"):
        build(tmp_path / "t.csv", tmp_path / "out")
    (tmp_path / "t.csv").write_text("path,labels\nabsent.jpg,3\n")
    with pytest.raises(UserError, match=r"absent\.jpg cannot be read"):
        build(tmp_path / "t.csv", tmp_path / "out")
    (tmp_path / "x.jpg").write_bytes(b"GIF89a")
    (tmp_path / "t.csv").write_text("path,labels\nx.jpg,3\n")
    with pytest.raises(UserError, match=r"x\.jpg.*neither JPEG nor PNG nor WebP"):
        build(tmp_path / "t.csv", tmp_path / "out2")


@pytest.mark.parametrize("option", ["--label-column", "--image-column"])
def test_a_column_of_a_source_without_such_is_refused(option: str, tree: Path, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("path,labels,others\nabsent.jpg,3,4\n")
    for source in (tree, tmp_path / "t.csv"):
        with pytest.raises(UserError, match=f"{option} others: is for hf: sources"):
            main(["build", str(source), str(tmp_path / "out"), option, "others"])


def test_a_finished_data_set_is_not_overwritten(tree: Path, tmp_path: Path) -> None:
    build(tree, tmp_path / "out")
    with pytest.raises(UserError, match="holds a finished data set"):
        main(["build", str(tree), str(tmp_path / "out")])
