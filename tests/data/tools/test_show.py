"""`show`: the sheet holds the data set's own images, and the plot its own class counts."""

import io
import json
from collections import Counter
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from PIL import Image
from webdataset import TarWriter, WebDataset

from scaling.data.command import main
from scaling.data.format.class_counts import count_classes
from scaling.data.format.index import expand_urls, index_shards
from scaling.data.format.load_manifest import load_manifest
from scaling.data.format.manifest import Manifest
from scaling.data.storage.integrity import CorruptSampleError
from scaling.data.tools.frequency_plot import describe_tail, draw_class_frequencies, frequency_figure
from scaling.data.tools.sheets import CAPTION, COLUMNS, TILE
from scaling.errors import UserError
from tests.support.tiny_study import encode


def images_by_webdataset(folder: Path) -> list[Image.Image]:
    """All images, enlarged to a tile's inner side as Pillow does it."""
    urls = [str(path) for path in sorted(folder.glob("*.tar"))]
    images = [Image.open(io.BytesIO(sample["png"])) for sample in WebDataset(urls, shardshuffle=False)]
    return [image.resize((TILE - 4, TILE - 4), Image.Resampling.BILINEAR) for image in images]


def test_the_sheet_holds_different_samples_of_the_data_set(tiny_data: Path, tmp_path: Path) -> None:
    assert main(["show", str(tiny_data / "train.json"), "--out", str(tmp_path / "sheet.png"), "--num", "20"]) == 0
    sheet = Image.open(tmp_path / "sheet.png")
    assert sheet.size == (COLUMNS * TILE, 3 * (TILE + CAPTION))
    place_of = {image.tobytes(): number for number, image in enumerate(images_by_webdataset(tiny_data / "train"))}
    corners = [(place % COLUMNS * TILE + 2, place // COLUMNS * (TILE + CAPTION) + 2) for place in range(20)]
    shown = [place_of[sheet.crop((left, top, left + TILE - 4, top + TILE - 4)).tobytes()] for left, top in corners]
    assert shown == sorted(set(shown)), "a sample stands twice, or not in the order of the shards"
    assert {number // 40 for number in shown} == set(range(5)), "not every shard is shown"


def write_labels(folder: Path, rows: list[list[int]], num_classes: int, label_type: str) -> Manifest:
    """One image per row of class numbers, in two shards."""
    folder.mkdir()
    for shard, part in enumerate((rows[::2], rows[1::2])):
        with TarWriter(str(folder / f"{shard}.tar")) as writer:
            for number, labels in enumerate(part):
                image = encode(np.full((4, 4, 3), number % 256, np.uint8))
                writer.write({"__key__": f"{shard}-{number}", "png": image, "json": json.dumps(labels).encode()})
    return index_shards(
        expand_urls([str(folder)]),
        folder / "manifest.json",
        name="made",
        classes=[f"c{number}" for number in range(num_classes)],
        label_type=label_type,
    )


def all_samples(manifest: Manifest) -> list[tuple[int, range]]:
    return [(shard_id, range(count)) for shard_id, count in enumerate(manifest.shard_samples.tolist())]


def test_an_image_counts_once_in_each_of_its_classes(tmp_path: Path) -> None:
    rows = [[0], [0, 2], [], [2, 2], [0, 4]]
    manifest = write_labels(tmp_path / "data", rows, 5, "multi")
    assert count_classes(manifest, all_samples(manifest)).tolist() == [3, 0, 2, 0, 1]


def test_labels_outside_the_classes_are_refused_by_name(tmp_path: Path) -> None:
    manifest = write_labels(tmp_path / "data", [[0], [1], [0], [1]], 2, "single")
    tar = tmp_path / "data" / "1.tar"
    for wrong in (b"[7]", b"-1 "):
        tar.write_bytes(tar.read_bytes().replace(b"[1]", wrong, 1))
        with pytest.raises(CorruptSampleError, match="'1-0' has the labels"):
            count_classes(manifest, all_samples(manifest))
        tar.write_bytes(tar.read_bytes().replace(wrong, b"[1]", 1))


def test_the_plot_shows_sorted_counts_on_axes_that_fit_them() -> None:
    tail = np.array([3, 0, 400, 1, 90, 3])
    axes = frequency_figure(tail, "long").axes[0]
    np.testing.assert_array_equal(np.asarray(axes.lines[0].get_xydata()), [[1, 400], [2, 90], [3, 3], [4, 3], [5, 1]])
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    level = frequency_figure(np.array([50, 49, 51]), "level").axes[0]
    assert (level.get_xscale(), level.get_yscale()) == ("linear", "linear")
    assert level.get_ylim()[0] == 0
    assert not len(frequency_figure(np.zeros(3, int), "none").axes[0].lines[0].get_xydata())


@pytest.mark.parametrize(
    ("counts", "text"),
    [
        ([5, 0, 3, 2], "3 of 4 classes have images; the 1 most frequent carry half of the labels"),
        ([1, 1, 1, 1, 1], "5 of 5 classes have images; the 3 most frequent carry half of the labels"),
        ([0, 0], "0 of 2 classes have images"),
    ],
)
def test_the_title_tells_the_tail(counts: list[int], text: str) -> None:
    assert describe_tail(np.array(counts)) == text


def test_the_command_writes_the_same_plot_of_the_data_twice(tiny_data: Path, tmp_path: Path) -> None:
    paths = [tmp_path / "a.png", tmp_path / "deep" / "b.png"]
    for path in paths:
        assert main(["show", str(tiny_data / "train.json"), "--frequencies", str(path)]) == 0
    assert paths[0].read_bytes() == paths[1].read_bytes()
    manifest = load_manifest(tiny_data / "train.json")
    urls = [str(path) for path in sorted((tiny_data / "train").glob("*.tar"))]
    expected = Counter(int(sample["cls"]) for sample in WebDataset(urls, shardshuffle=False))
    assert count_classes(manifest, all_samples(manifest)).tolist() == [expected[number] for number in range(4)]


def test_nothing_to_draw_is_an_error(tiny_data: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="without --out"):
        main(["show", str(tiny_data / "train.json")])
    with pytest.raises(UserError, match="--num 0"):
        main(["show", str(tiny_data / "train.json"), "--out", str(tmp_path / "a.png"), "--num", "0"])


def test_a_users_matplotlib_settings_change_nothing(tmp_path: Path) -> None:
    hostile = {"text.usetex": True, "font.size": 30, "axes.facecolor": "black", "savefig.dpi": 10, "axes.grid": True}
    drawn = []
    for number, settings in enumerate(({}, hostile)):
        with mpl.rc_context(settings):
            draw_class_frequencies(np.array([5, 3, 1]), tmp_path / f"{number}.png", name="cost $5 vs $6")
        drawn.append((tmp_path / f"{number}.png").read_bytes())
    assert drawn[0] == drawn[1]


def test_outputs_that_cannot_be_written_are_told_before_anything_is_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for option in ("--out", "--frequencies"):
        for path, told in ((tmp_path, "must name a PNG file"), (tmp_path / "file" / "a.png", "is in its place; name")):
            with pytest.raises(UserError, match=told):
                main(["show", str(tmp_path / "absent.json"), option, str(path)])
