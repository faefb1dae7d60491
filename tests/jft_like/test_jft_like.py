"""The JFT-like data set: the properties it promises, measured on what it writes."""

import argparse
import itertools
import tarfile
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scaling.data.format.class_counts import count_classes
from scaling.data.format.load_manifest import load_manifest
from scaling.data.read.pixels import PixelSource
from scaling.errors import UserError
from scaling.jft_like.classes import make_taxonomy
from scaling.jft_like.command import add_arguments
from scaling.jft_like.config import JftLikeConfig
from scaling.jft_like.draws import Draws
from scaling.jft_like.labels import LabelModel
from scaling.jft_like.make import make_jft_like

SMALL = JftLikeConfig(num_train=300, num_val=60, support_per_class=4, num_test=100, shard_samples=100)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("jft")
    assert make_jft_like(out, SMALL, processes=2)
    return out


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_bytes_follow_from_the_knobs_alone(made: Path, tmp_path: Path) -> None:
    make_jft_like(tmp_path / "again", SMALL, processes=1)
    assert files(tmp_path / "again") == files(made)
    make_jft_like(tmp_path / "other", JftLikeConfig(**{**asdict(SMALL), "seed": 1}), processes=1)
    assert files(tmp_path / "other")["train/manifest.json"] != files(made)["train/manifest.json"]


def test_a_complete_set_is_left_alone_and_a_broken_off_one_is_completed(made: Path, tmp_path: Path) -> None:
    assert not make_jft_like(made, SMALL)
    before = files(made)
    make_jft_like(tmp_path, SMALL, processes=1)
    (tmp_path / "train" / "manifest.json").unlink()
    sorted(tmp_path.glob("train/*.tar"))[1].unlink()
    assert make_jft_like(tmp_path, SMALL, processes=1)
    assert files(tmp_path) == before


def test_other_knobs_in_the_same_folder_are_refused(made: Path) -> None:
    with pytest.raises(UserError, match=r"noise: 0\.2 -> 0\.1"):
        make_jft_like(made, JftLikeConfig(**{**asdict(SMALL), "noise": 0.1}))


def test_shards_hold_what_their_manifests_say(made: Path) -> None:
    for split, count, kind in (("train", 300, "multi"), ("val", 60, "multi"), ("fewshot/support", 80, "single")):
        manifest = load_manifest(made / split / "manifest.json")
        assert (manifest.num_samples, manifest.label_type) == (count, kind)
        source = PixelSource(manifest)
        for shard in range(len(manifest.urls)):
            for labels in source.shard_labels(shard):
                assert labels and all(0 <= label < len(manifest.classes) for label in labels)
    with tarfile.open(next(made.glob("train/*.tar"))) as tar:
        names = tar.getnames()[:4]
    assert [Path(name).suffix for name in names] == [".jpg", ".json"] * 2


def test_few_shot_classes_are_balanced_and_unseen(made: Path) -> None:
    upstream = load_manifest(made / "train" / "manifest.json")
    for split, each in (("fewshot/support", 4), ("fewshot/test", 5)):
        manifest = load_manifest(made / split / "manifest.json")
        assert not set(manifest.classes) & set(upstream.classes)
        labels = [row[0] for shard in range(len(manifest.urls)) for row in PixelSource(manifest).shard_labels(shard)]
        assert np.bincount(labels).tolist() == [each] * SMALL.num_unseen_classes


def test_images_differ_and_fill_their_range(made: Path) -> None:
    source = PixelSource(load_manifest(made / "train" / "manifest.json"))
    images = [source.get(0, index)[0] for index in range(100)]
    assert all(image.shape == (32, 32, 3) for image in images)
    assert len({image.tobytes() for image in images}) == 100
    assert np.mean([image.std() for image in images]) > 25


@pytest.mark.parametrize("noise", [0.0, 0.2, 0.5])
def test_labels_per_image_and_share_of_wrong_ones_are_as_asked(noise: float) -> None:
    """20,000 samples: standard errors are 0.003 labels and 0.3 points."""
    taxonomy = make_taxonomy(24, 20, 0.7, 0)
    model = LabelModel(taxonomy, 1.26, noise)
    draws = Draws.of(0, "train", np.arange(20_000))
    given = model.given_labels(draws)
    labels, present = model.true_labels(draws)
    true = [set(row[mask].tolist()) for row, mask in zip(labels, present, strict=True)]
    wrong = sum(label not in truth for row, truth in zip(given, true, strict=True) for label in row)
    assert np.mean([len(row) for row in given]) == pytest.approx(1.26, abs=0.03)
    assert wrong / sum(map(len, given)) == pytest.approx(noise, abs=0.02)


def test_classes_have_a_long_tail_and_a_hierarchy() -> None:
    taxonomy = make_taxonomy(200, 20, 1.0, 0)
    frequency = np.sort(taxonomy.leaf_frequency)[::-1]
    assert frequency.sum() == pytest.approx(1)
    assert frequency[0] / frequency[99] == pytest.approx(100)
    for leaf, ancestors in zip(taxonomy.leaf_label, taxonomy.hypernym_labels, strict=True):
        names = [taxonomy.names[label] for label in (*ancestors, leaf)]
        assert all(longer.startswith(f"{shorter}.") for shorter, longer in itertools.pairwise(names))


@pytest.mark.parametrize(("knob", "value"), [("noise", 1.5), ("image_size", 4), ("num_train", 0), ("variation", -1)])
def test_knobs_out_of_range_are_told(knob: str, value: float) -> None:
    with pytest.raises(UserError, match=knob):
        JftLikeConfig(**{knob: value})


def test_every_knob_is_explained_on_the_command_line() -> None:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    text = parser.format_help()
    for name in asdict(JftLikeConfig()):
        assert f"--{name.replace('_', '-')}" in text


def resize(pixels: np.ndarray, side: int) -> np.ndarray:
    return np.asarray(Image.fromarray(pixels).resize((side, side), Image.Resampling.BILINEAR)).astype(float)


@pytest.mark.parametrize("image_size", [64, 224])
def test_larger_images_are_drawn_finer_and_not_blown_up(tmp_path: Path, image_size: int) -> None:
    """Shrunk to 32 px they show the same scene; their own finest detail is more than an enlargement has."""

    def image(size: int) -> np.ndarray:
        knobs = JftLikeConfig(
            image_size=size, num_train=8, num_val=1, support_per_class=1, num_test=20, shard_samples=10, clutter=0.0
        )
        make_jft_like(tmp_path / str(size), knobs, processes=1)
        return PixelSource(load_manifest(tmp_path / str(size) / "train" / "manifest.json")).get(0, 3)[0]

    small, large = image(32), image(image_size)
    assert np.corrcoef(small.ravel(), resize(large, 32).ravel())[0, 1] > 0.8
    enlarged = resize(small, image_size)
    assert np.abs(np.diff(large.astype(float), axis=0)).max() > np.abs(np.diff(enlarged, axis=0)).max()


def test_manifests_count_the_samples_of_each_class(made: Path) -> None:
    for folder in ("train", "val", "fewshot/support", "fewshot/test"):
        manifest = load_manifest(made / folder / "manifest.json")
        samples = ((shard, range(num)) for shard, num in enumerate(manifest.shard_samples.tolist()))
        assert manifest.class_counts is not None
        assert manifest.class_counts.tolist() == count_classes(manifest, samples).tolist()
