"""Anybody's shards: packed or plain, bare classes or lists, local or remote, in parallel, all the same manifest."""

import gzip
from pathlib import Path

import numpy as np
import pytest
from webdataset import TarWriter

from scaling.data.command import main
from scaling.data.format.index import expand_urls, index_shards
from scaling.data.format.load_manifest import load_manifest
from scaling.data.format.manifest import Manifest
from scaling.data.read.pixels import PixelSource
from scaling.data.storage.integrity import CorruptSampleError
from tests.support.http_server import serve
from tests.support.tiny_study import encode

ENCODED = encode(np.full((8, 8, 3), 9, np.uint8))

LABELS = {
    "cls": [3, 0, 1],
    "label.json": [{"label": 3}, {"label": 0, "caption": "x"}, {"label": 1}],
    "list.json": [[3], [0, 2], []],
}


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """One shard of each label form as .tar and as .tar.gz, and a class beside metadata as img2dataset writes it."""
    folder = tmp_path / "shards"
    folder.mkdir()
    for form, labels in LABELS.items():
        extension = form.rpartition(".")[2]
        path = folder / f"{form}.tar"
        with TarWriter(str(path)) as writer:
            for number, label in enumerate(labels):
                value = str(label) if extension == "cls" else label
                writer.write({"__key__": f"{form[:4]}{number}", "png": ENCODED, extension: value})
        (folder / f"{form}.packed.tar.gz").write_bytes(gzip.compress(path.read_bytes()))
    with TarWriter(str(folder / "meta.tar")) as writer:
        writer.write({"__key__": "m", "png": ENCODED, "cls": "2", "json": {"url": "x", "width": 8}, "txt": "a caption"})
    return folder


def all_labels(manifest: Manifest) -> list[list[list[int]]]:
    source = PixelSource(manifest)
    return [source.shard_labels(number) for number in range(len(manifest.urls))]


def test_every_form_is_read_and_threads_change_nothing(shards: Path, tmp_path: Path) -> None:
    locations = expand_urls([str(shards)])
    one, many = (index_shards(locations, tmp_path / f"{threads}.json", name="x", threads=threads) for threads in (1, 4))
    assert one.digest == many.digest and one.urls == many.urls
    assert one.label_type == "multi" and one.num_samples == 19 and len(one.classes) == 4
    cls, listed = [[3], [0], [1]], [[3], [0, 2], []]
    assert all_labels(one) == [cls, cls, cls, cls, listed, listed, [[2]]]


def test_behind_a_url_it_is_the_same_data(shards: Path, tmp_path: Path) -> None:
    local = index_shards(expand_urls([str(shards)]), tmp_path / "local.json", name="x")
    with serve(shards) as server:
        names = ",".join(Path(url).name for url in local.urls)
        assert main(["index", f"{server.url}/{{{names}}}", "--out", str(tmp_path / "remote.json")]) == 0
        there = load_manifest(tmp_path / "remote.json")
        assert there.digest == local.digest
        assert all_labels(there) == all_labels(local)
        assert PixelSource(there).get(1, 0).pixels.tolist() == PixelSource(local).get(1, 0).pixels.tolist()


def test_an_image_of_no_bytes_is_counted_and_named_by_index_validate_and_training_alike(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with TarWriter(str(tmp_path / "a.tar")) as writer:
        for number in range(6):
            image = b"" if number in (2, 4) else encode(np.zeros((8, 8, 3), dtype=np.uint8))
            writer.write({"__key__": f"{number:04d}", "png": image, "cls": str(number % 2)})
    assert main(["index", str(tmp_path / "a.tar"), "--out", str(tmp_path / "a.json")]) == 0
    told = capsys.readouterr().out
    assert f"images of 0 bytes: 2 samples, the first '0002' of {tmp_path / 'a.tar'}" in told
    assert main(["validate", str(tmp_path / "a.json")]) == 1
    told = capsys.readouterr().out
    assert "the image of sample '0002' cannot be decoded" in told and "6 samples read: 2 × image" in told
    source = PixelSource(load_manifest(tmp_path / "a.json"))
    for number in range(6):
        if number in (2, 4):
            with pytest.raises(CorruptSampleError, match=f"sample '000{number}'"):
                source.get(0, number)
        else:
            assert source.get(0, number)[0].shape == (8, 8, 3)
