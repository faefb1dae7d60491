"""Tasks of VTAB-1k from stand-ins of the right size: torchvision's own reader on files of its layout, a Hugging Face
data set on disk, lists, and the arrays of dSprites. No network."""

import io
import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import datasets
import numpy as np
import pytest
from PIL import Image

from scaling.data.command import main
from scaling.data.format.load_manifest import load_manifest
from scaling.data.format.shard import Shard
from scaling.data.tools.vtab.prepare import draw, prepare_task
from scaling.data.tools.vtab.sources import Listed, task_parts
from scaling.data.tools.vtab.tasks import TEST, TRAIN, TRAIN_VAL, VAL, VtabTask, all_tasks, find_task
from scaling.errors import UserError

SPLITS = {TRAIN: 800, VAL: 200, TRAIN_VAL: 1000}


SMALL = replace(find_task("dtd"), counts={TRAIN: 80, VAL: 20, TRAIN_VAL: 100, TEST: 94})
"""DTD with a twentieth of its images."""


@cache
def png(number: int) -> bytes:
    """One pixel of a colour of its own."""
    stream = io.BytesIO()
    Image.new("RGB", (1, 1), (number % 256, number // 256 % 256, number // 65536)).save(stream, "PNG")
    return stream.getvalue()


def samples(path: Path) -> list[tuple[bytes, int]]:
    manifest = load_manifest(path)
    shards = [Shard(manifest.shard_location(number)) for number in range(len(manifest.urls))]
    return [(encoded, labels[0]) for shard in shards for encoded, labels in map(shard.read, range(len(shard)))]


def check_splits(task: VtabTask, out: Path, image_class: dict[bytes, int]) -> None:
    """Counts, unions, labels, and nothing in two splits."""
    found = {split: samples(out / f"{split}.json") for split in (TRAIN, VAL, TRAIN_VAL, TEST)}
    assert {split: len(rows) for split, rows in found.items()} == task.counts
    assert sorted(found[TRAIN_VAL]) == sorted(found[TRAIN] + found[VAL])
    for rows in found.values():
        assert len({encoded for encoded, _ in rows}) == len(rows)
        assert all(image_class[encoded] == label for encoded, label in rows)
    assert not {encoded for encoded, _ in found[TRAIN_VAL]} & {encoded for encoded, _ in found[TEST]}


def write_dtd(root: Path, num_each: int = 94) -> dict[bytes, int]:
    """The layout in which torchvision's DTD reads: 47 classes, three parts of one partition."""
    base, image_class = root / "dtd" / "dtd", {}
    (base / "labels").mkdir(parents=True)
    classes = [f"texture{number:02d}" for number in range(47)]
    for name in classes:
        (base / "images" / name).mkdir(parents=True)
    number = 0
    for part in ("train", "val", "test"):
        lines = []
        for place in range(num_each):
            name = f"{classes[place % 47]}/{classes[place % 47]}_{number}.jpg"
            image_class[png(number)] = place % 47
            (base / "images" / name).write_bytes(png(number))
            lines.append(name)
            number += 1
        (base / "labels" / f"{part}1.txt").write_text("\n".join(lines) + "\n")
    return image_class


def test_the_suite_names_each_task_with_a_way_to_have_it() -> None:
    assert len(all_tasks()) == 19
    for task in all_tasks().values():
        assert {split: task.counts[split] for split in SPLITS} == SPLITS and task.counts[TEST] > 0
        assert task.torchvision or task.hub or task.by_hand
    with pytest.raises(UserError, match="no such task; did you mean 'kitti_distance'"):
        find_task("kitti_distanse")


def test_torchvision_files_are_kept_as_they_are(tmp_path: Path) -> None:
    image_class = write_dtd(tmp_path)
    built = prepare_task(SMALL, tmp_path / "out", str(tmp_path), seed=0, shard_samples=30)
    check_splits(SMALL, tmp_path / "out", image_class)
    # The same again finds what is there; another seed draws other images.
    again = prepare_task(SMALL, tmp_path / "out", str(tmp_path), seed=0, shard_samples=30)
    assert {name: one.digest for name, one in built.items()} == {name: one.digest for name, one in again.items()}
    parts = task_parts(SMALL, str(tmp_path))
    one, other = (draw(SMALL, parts, seed)[TRAIN][1] for seed in (0, 1))
    assert len(set(one)) == 80 and set(one) != set(other)


def test_another_version_of_the_data_is_refused(tmp_path: Path) -> None:
    write_dtd(tmp_path)
    with pytest.raises(UserError, match="vtab:dtd: test has 94 images, and VTAB-1k has 1,880; this is another version"):
        prepare_task(find_task("dtd"), tmp_path / "out", str(tmp_path), seed=0)
    with pytest.raises(UserError, match="vtab:dtd: test has 47 classes, and VTAB-1k has 48; this is another version"):
        prepare_task(replace(SMALL, num_classes=48), tmp_path / "out", str(tmp_path), seed=0)
    assert not (tmp_path / "out").exists()


def test_a_hugging_face_data_set_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(num_classes=4)})
    stored, first = {}, 0
    for split, count in (("train", 120), ("validation", 50), ("test", 94)):
        numbers = range(first, first + count)
        rows = {"image": [{"bytes": png(one), "path": None} for one in numbers], "label": [one % 4 for one in numbers]}
        stored[split], first = datasets.Dataset.from_dict(rows, features=features), first + count
    datasets.DatasetDict(stored).save_to_disk(str(tmp_path / "stored"))
    task = replace(SMALL, num_classes=4)
    prepare_task(task, tmp_path / "out", f"hf:{tmp_path / 'stored'}", seed=0)
    check_splits(task, tmp_path / "out", {png(one): one % 4 for one in range(first)})
    # Validation images are of the validation split, training images are not.
    validation = {png(one) for one in range(120, 170)}
    assert {encoded for encoded, _ in samples(tmp_path / "out" / "val200.json")} <= validation
    assert not validation & {encoded for encoded, _ in samples(tmp_path / "out" / "train800.json")}


def test_lists_are_taken_as_they_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "images").mkdir()
    image_class, first = {}, 0
    for split, count in ((TRAIN, 800), (VAL, 200), (TEST, 711)):
        lines = []
        for number in range(first, first + count):
            (tmp_path / "images" / f"{number}.png").write_bytes(png(number))
            image_class[png(number)] = number % 4
            lines.append(f"images/{number}.png {number % 4}")
        (tmp_path / f"{split}.txt").write_text("\n".join(lines))
        first += count
    task = find_task("kitti_distance")
    assert main(["build", "vtab:kitti_distance", str(tmp_path / "out"), "--from", str(tmp_path), "--seed", "7"]) == 0
    assert "711 samples in 1 shards, 4 single-label classes" in capsys.readouterr().out
    check_splits(task, tmp_path / "out", image_class)
    assert {encoded for encoded, _ in samples(tmp_path / "out" / "train800.json")} == {png(one) for one in range(800)}
    (tmp_path / "train800.txt").write_text("images/0.png 0\nimages/1.png 4\n")
    with pytest.raises(UserError, match=r"line 2: 'images/1\.png 4' is no 'PATH CLASS' with a class from 0 to 3"):
        prepare_task(task, tmp_path / "again", str(tmp_path), seed=7)
    (tmp_path / "train800.txt").write_text("images/0.png 0\n")
    with pytest.raises(UserError, match="lists 1 images, and the split train800 of vtab:kitti_distance has 800"):
        prepare_task(task, tmp_path / "again", str(tmp_path), seed=7)


def test_splits_out_of_one_part_are_disjoint_and_whole() -> None:
    task = VtabTask("small", 3, {TRAIN: 8, VAL: 2, TEST: 5}, total=20)
    chosen = draw(task, {"train": Listed(range(20), [0] * 20, ["a"], bytes)}, seed=0)
    rows = np.concatenate([positions for _, positions in chosen.values()])
    assert len(set(rows)) == len(rows) == 15
    with pytest.raises(UserError, match="there are 19 images, and VTAB-1k draws from 20"):
        draw(task, {"train": Listed(range(19), [0] * 19, ["a"], bytes)}, seed=0)
    task = VtabTask("classes", 3, {TRAIN: 8, VAL: 2, TEST: 5}, train_per_class=4)
    labels = [0] * 6 + [1] * 5 + [2] * 6
    chosen = draw(task, {"train": Listed(range(17), labels, ["a", "b", "c"], bytes)}, seed=0)
    assert np.bincount(np.array(labels)[chosen[TEST][1]]).tolist() == [2, 1, 2]


def test_labels_that_no_library_gives(tmp_path: Path) -> None:
    """CLEVR's counts and distances, dSprites' bins: the rules of task_adaptation, worked out by hand."""
    folder = tmp_path / "clevr" / "CLEVR_v1.0"
    depths = {"a.png": [9.2, 8.0, 12.0], "b.png": [8.5, 8.6, 20.0, 11.0], "c.png": [10.1] * 10}
    for split in ("train", "val", "test"):
        (folder / "images" / split).mkdir(parents=True)
        (folder / "scenes").mkdir(exist_ok=True)
        scenes = [
            {"image_filename": name, "objects": [{"pixel_coords": [0, 0, depth]} for depth in values]}
            for name, values in depths.items()
        ]
        (folder / "scenes" / f"CLEVR_{split}_scenes.json").write_text(json.dumps({"scenes": scenes}))
        for name in depths:
            (folder / "images" / split / name).write_bytes(png(0))
    found = {}
    for name in ("clevr_count", "clevr_distance"):
        (source, _) = task_parts(find_task(name), str(tmp_path)).values()
        found[name] = [label for _, label in source.references()]
    # The closest objects are 8.0, 8.5 and 10.1 away: a distance on a bound counts as below it.
    assert found == {"clevr_count": [0, 1, 7], "clevr_distance": [0, 1, 5]}
    latents = np.zeros((40, 6), dtype=np.int64)
    latents[:, 3], latents[:, 4] = np.arange(40), np.arange(40) % 32
    np.savez(tmp_path / "d.npz", imgs=np.ones((40, 64, 64), dtype=np.uint8), latents_classes=latents)
    for name, factor in (("dsprites_orientation", 2.5), ("dsprites_location", 2.0)):
        source = task_parts(find_task(name), str(tmp_path / "d.npz"))["train"]
        values = latents[:, 3] if factor == 2.5 else latents[:, 4]
        assert [label for _, label in source.references()] == np.floor(values / factor).astype(int).tolist()
        pixels = np.asarray(Image.open(io.BytesIO(source.read((3, 0))[0])))
        assert pixels.shape == (64, 64) and (pixels == 255).all()


@pytest.mark.parametrize(
    ("task", "where", "told"),
    [
        ("cifar100", "", "name one with --from FOLDER"),
        ("diabetic_retinopathy", "", "Kaggle gives it to those who accept the rules"),
        ("kitti_distance", "", "is not downloaded: its splits keep the frames of one drive together"),
        ("dsprites_location", "", "name it with --from FILE.npz"),
        ("dsprites_location", "absent.npz", "is not the file of dSprites"),
        ("dtd", "hf:absent", "its splits cannot be told"),
        ("resisc45", "", "timm/resisc45: its splits cannot be told"),
        ("pets", "downloads", "cannot be had in downloads .*run this where there is a network"),
    ],
)
def test_what_cannot_be_had_is_told_in_one_sentence(
    task: str, where: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    def no_network(*args: object, **kwargs: object) -> None:
        raise OSError("no network")

    # As on a machine without a network, at once and wherever the tests run.
    monkeypatch.setattr(datasets, "get_dataset_split_names", no_network)
    monkeypatch.setattr("torchvision.datasets.oxford_iiit_pet.download_and_extract_archive", no_network)
    with pytest.raises(UserError, match=told) as error:
        prepare_task(find_task(task), tmp_path / "out", where, seed=0)
    assert "\n" not in str(error.value)


def test_options_that_mean_nothing_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--skip-bad: a task of VTAB-1k is prepared as it is"):
        main(["build", "vtab:dtd", str(tmp_path / "out"), "--skip-bad", "3"])
    with pytest.raises(UserError, match="is for vtab: tasks"):
        main(["build", str(tmp_path), str(tmp_path / "out"), "--from", "there"])
