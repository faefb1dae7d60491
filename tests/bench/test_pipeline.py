"""`scaling.bench pipeline` at small sizes: what it reports and that it is true of the same images."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from webdataset import TarWriter

from scaling.bench.command import main
from scaling.bench.page.command import make_page
from scaling.bench.pipeline.command import BARE, BASELINE, OURS, REMEMBERED, TIMM
from scaling.bench.pipeline.planning import NUM_RANKS, NUM_SHARDS, NUM_WORKERS
from scaling.data.format.index import expand_urls, index_shards
from scaling.errors import UserError


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """96 smooth JPEGs of 120 x 90 in two shards."""
    folder = tmp_path_factory.mktemp("photos")
    generator = np.random.default_rng(0)
    for shard in range(2):
        with TarWriter(str(folder / f"{shard}.tar")) as writer:
            for number in range(48):
                coarse = Image.fromarray(generator.integers(0, 256, (9, 12, 3), dtype=np.uint8))
                stream = io.BytesIO()
                coarse.resize((120, 90), Image.Resampling.BICUBIC).save(stream, "JPEG", quality=90)
                writer.write({"__key__": f"{shard}{number:03d}", "jpg": stream.getvalue(), "cls": number % 3})
    index_shards(expand_urls([str(folder)]), folder / "m.json", name="photos")
    return folder / "m.json"


def test_the_report_has_rates_ratios_pixels_limit_and_wait(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = ["--image-size", "32", "--batch", "16", "--images", "48", "--rounds", "2"]
    assert main(["pipeline", str(photos), *sizes, "--json", str(tmp_path / "out.json")]) == 0
    figures = json.loads((tmp_path / "out.json").read_text())
    loaders = {BASELINE, TIMM, OURS}
    for column, names in (("images_per_cpu_second", loaders | {REMEMBERED, BARE}), ("first_batch_seconds", loaders)):
        assert set(figures[column]) == names
        assert all(len(values) == 2 and min(values) > 0 for values in figures[column].values())
    assert figures["ratio"][BASELINE] == 1 and figures["ratio"][OURS] > 0 and figures["ratio_to_timm"] > 0
    assert 0 < figures["mean_pixel_error"] < 0.2
    assert figures["decode_only_per_cpu_second"] > 0
    assert 0 <= figures["data_wait"] < 1
    assert str(tmp_path) not in json.dumps(figures) and str(photos.parent) not in json.dumps(figures)
    printed = capsys.readouterr().out
    assert OURS in printed and "grey levels" in printed and "waits" in printed


def test_threads_and_decode_processes_are_compared(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = ["--image-size", "32", "--batch", "16", "--images", "32", "--rounds", "2"]
    assert main(["pipeline", str(photos), "--decoders", *sizes, "--json", str(tmp_path / "decoders.json")]) == 0
    figures = json.loads((tmp_path / "decoders.json").read_text())
    ways = ["1 thread", "2 threads", "1 thread in 1 decode process", "2 threads in 2 decode processes"]
    for column in ("images_per_second", "images_per_cpu_second", "first_batch_seconds"):
        assert list(figures[column]) == ways
        assert all(len(values) == 2 and min(values) > 0 for values in figures[column].values())
    page = make_page(tmp_path)
    assert all(f"| {way} |" in page for way in ways)
    told = capsys.readouterr().out
    assert all(way in told for way in ways) and "8 GPUs that take 20,000 images/s each need" in told


def test_planning_at_the_largest_size_needs_little_memory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Memory is asserted; seconds are for the machine at hand to report."""
    assert main(["pipeline", "--plan-only", "--json", str(tmp_path / "plan.json")]) == 0
    figures = json.loads((tmp_path / "plan.json").read_text())
    assert (figures["shards"], figures["ranks"], figures["workers"]) == (NUM_SHARDS, NUM_RANKS, NUM_WORKERS)
    assert figures["samples"] == 300_000_000
    assert figures["peak memory MB"] < 220
    assert {"manifest seconds", "subset and order seconds"} <= set(figures)


def test_without_a_manifest_it_says_what_is_missing() -> None:
    with pytest.raises(UserError, match="name the manifest"):
        main(["pipeline"])


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--images", "8"), r"--images 8: rounds are of whole batches, of --batch 64"),
        (("--image-size", "100000"), r"--image-size 100000: a batch of 64 has more than 500,000,000 pixels"),
        ((), r"timm's loader takes labels from \.cls alone"),
    ],
)
def test_what_cannot_be_measured_is_refused(words: tuple[str, ...], told: str, tmp_path: Path) -> None:
    image = io.BytesIO()
    Image.new("RGB", (8, 8)).save(image, "PNG")
    with TarWriter(str(tmp_path / "a.tar")) as shard:
        shard.write({"__key__": "0", "png": image.getvalue(), "json": [1, 3]})
    index_shards(expand_urls([str(tmp_path / "a.tar")]), tmp_path / "a.json", name="several labels an image")
    with pytest.raises(UserError, match=told):
        main(["pipeline", str(tmp_path / "a.json"), *words])


@pytest.mark.parametrize("option", ["--image-size", "--batch", "--images", "--rounds"])
def test_numbers_are_above_zero(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["pipeline", "train.json", option, "0"])
    assert end.value.code == 2 and f"{option}: 0 is not above 0" in capsys.readouterr().err
