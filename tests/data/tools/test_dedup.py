"""Near-duplicates: planted copies are found and nothing else; the hash is imagehash's, the pairs are all pairs."""

import csv
import io
import json
from pathlib import Path

import imagehash
import numpy as np
import pytest
import webdataset
from PIL import Image
from scipy.ndimage import gaussian_filter

from scaling.data.command import main
from scaling.data.format.index import expand_urls, index_shards
from scaling.data.format.load_manifest import load_manifest
from scaling.data.tools.perceptual_hash import near_pairs, perceptual_hash
from scaling.errors import UserError

RNG = np.random.default_rng(0)


def scene(size: int = 96) -> np.ndarray:
    """A random smooth image with detail at several scales."""
    noise = sum(gaussian_filter(RNG.normal(size=(size, size, 3)), (s, s, 0)) * s**1.3 for s in (1, 3, 8))
    return np.clip(128 + 60 * noise / noise.std(), 0, 255).astype(np.uint8)


def encoded(pixels: np.ndarray, kind: str = "PNG", **options: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind, **options)
    return stream.getvalue()


def write(folder: Path, images: list[bytes], per_shard: int = 7) -> Path:
    folder.mkdir()
    for start in range(0, len(images), per_shard):
        with webdataset.TarWriter(str(folder / f"{start:04d}.tar")) as writer:
            for number, image in enumerate(images[start : start + per_shard], start):
                extension = "jpg" if image[:2] == b"\xff\xd8" else "png"
                writer.write({"__key__": f"{number:05d}", extension: image, "cls": "0"})
    manifest = folder / "manifest.json"
    index_shards(expand_urls([str(folder)]), manifest, name=folder.name)
    return manifest


@pytest.mark.parametrize("side", [20, 32, 33, 150])
def test_the_hash_is_that_of_imagehash(side: int) -> None:
    for _ in range(10):
        pixels = scene(side)
        theirs = imagehash.phash(Image.fromarray(pixels))
        assert perceptual_hash(pixels) == int(str(theirs), 16)


def test_a_image_of_one_colour_has_no_look() -> None:
    assert perceptual_hash(np.full((50, 40, 3), 77, np.uint8)) is None


@pytest.mark.parametrize("at_once", [1, 50, 10_000])
def test_all_near_pairs_are_found(at_once: int) -> None:
    one = RNG.integers(0, 2**63, 40, dtype=np.uint64)
    other = np.concatenate([one[:9] ^ np.uint64(0b10101), RNG.integers(0, 2**63, 20, dtype=np.uint64)])
    expected = [
        (i, j, bits)
        for i, a in enumerate(one.tolist())
        for j, b in enumerate(other.tolist())
        if (bits := (a ^ b).bit_count()) <= 24
    ]
    assert near_pairs(one, other, 24, at_once) == expected and len(expected) >= 9


def test_planted_copies_are_found_and_nothing_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scenes = [scene() for _ in range(60)]
    train = [encoded(pixels) for pixels in scenes[:40]]
    small = np.asarray(Image.fromarray(scenes[5]).resize((48, 48), Image.Resampling.BILINEAR))
    planted = {
        3: train[3],
        4: encoded(scenes[4], "JPEG", quality=40),
        5: encoded(small),
        6: encoded(scenes[6][1:-1, 1:-1], "JPEG", quality=85),
    }
    val = write(tmp_path / "val", [*planted.values(), *(encoded(pixels) for pixels in scenes[40:])])
    other = write(tmp_path / "other", [encoded(scenes[12]), b"\x89PNG\r\n\x1a\n broken"])
    flat = encoded(np.full((32, 32, 3), 9, np.uint8))
    manifest = write(tmp_path / "train", [*train, flat, b"\x89PNG\r\n\x1a\n broken too"])
    out = tmp_path / "out"
    words = ["dedup", str(manifest), "--against", str(val), str(other), "--out", str(out), "--threads", "2"]
    assert main([*words, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts == {"num_train": 42, "num_evaluation": 26, "num_pairs": 5, "num_excluded": 5, "num_unreadable": 2}
    with (out / "pairs.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [(int(row["train_key"]), row["against"], int(row["val_key"])) for row in rows] == [
        *((train_number, str(val), number) for number, train_number in enumerate(planted)),
        (12, str(other), 0),
    ]
    assert [row["distance"] for row in rows if row["distance"] == "equal"] == ["equal", "equal"]
    assert all(row["distance"] == "equal" or int(row["distance"]) <= 6 for row in rows)
    excluded = json.loads((out / "exclude.json").read_text())
    numbers = [7 * shard + index for shard, index in zip(*excluded["samples"].values(), strict=True)]
    assert numbers == [3, 4, 5, 6, 12]
    assert excluded["data_digest"] == load_manifest(manifest).digest
    assert Image.open(out / "pairs.png").size == (4 * (2 * 112 + 14), 2 * (112 + 28))

    assert main(["subset", str(manifest), "--fraction", "1", "--exclude", str(out / "exclude.json"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["num_samples"] == 37
    written = tmp_path / "written"
    options = ["--exclude", str(out / "exclude.json"), "--write", str(written)]
    assert main(["subset", str(manifest), "--fraction", "1", *options]) == 0
    assert "5 are excluded" in capsys.readouterr().out
    again = ["dedup", str(written / "manifest.json"), "--against", str(val), str(other), "--out", str(tmp_path / "o2")]
    assert main([*again, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["num_pairs"] == 0
    assert not (tmp_path / "o2" / "pairs.png").exists()


def test_a_distance_that_means_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--distance 17: must be 0 to 16"):
        main(["dedup", "a.json", "--against", "b.json", "--out", str(tmp_path), "--distance", "17"])
