"""Batches from real tars: the same samples on any number of processes, from any position, with nothing lost."""

import io
import itertools
import json
import shutil
import tarfile
import threading
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from webdataset import TarWriter

from scaling.data.format.index import expand_urls, index_shards
from scaling.data.format.load_manifest import load_manifest
from scaling.data.format.manifest import Manifest
from scaling.data.read.images import decode
from scaling.data.read.loader import Batch, EvalLoader, TrainLoader
from scaling.data.read.pixels import PixelSource
from scaling.data.select.permute import planned_permutation
from scaling.data.select.subset import Subset, select_subset
from scaling.data.storage.integrity import CorruptSampleError
from scaling.errors import UserError
from scaling.records.run_plan import InputPlan
from tests.support.damaged_jpegs import DAMAGES, WHOLE, scan_offset


@pytest.fixture
def source(tiny_data: Path) -> PixelSource:
    return PixelSource(load_manifest(tiny_data / "train.json"))


def subset_of(source: PixelSource, fraction: float = 1.0) -> Subset:
    return select_subset(source.manifest, fraction, 0)


def batches(source: PixelSource, count: int, fraction: float = 1.0, **settings: object) -> list[Batch]:
    options: dict[str, object] = {"seed": 0, "batch": 24, "image_size": 16, "augment": "inception"} | settings
    loader = TrainLoader(source, subset_of(source, fraction), **options)  # type: ignore[arg-type]
    return list(itertools.islice(loader, count))


def png(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def fingerprints(parts: list[Batch]) -> list[bytes]:
    return [image.numpy().tobytes() for part in parts for image in part.images]


@pytest.mark.parametrize("world", [2, 3, 4, 8])
def test_a_global_batch_holds_the_same_views_on_any_number_of_processes(source: PixelSource, world: int) -> None:
    alone = batches(source, 12)
    ranks = [batches(source, 12, rank=rank, world=world) for rank in range(world)]
    for step, whole in enumerate(alone):
        together = [view for rank in ranks for view in fingerprints([rank[step]])]
        assert Counter(together) == Counter(fingerprints([whole]))


@pytest.mark.parametrize("threads", [2, 3])
def test_threads_change_nothing(source: PixelSource, threads: int) -> None:
    assert fingerprints(batches(source, 6, batch=200, threads=threads)) == fingerprints(batches(source, 6, batch=200))


def test_gradients_flow_through_batches(source: PixelSource) -> None:
    """Views are made without PyTorch's bookkeeping for gradients; batches must not inherit that."""
    evaluation = EvalLoader(source, batch=24, image_size=16, transform="upstream")
    for batch in (*batches(source, 1), next(iter(evaluation))):
        network = torch.nn.Conv2d(3, 2, 3)
        network(batch.images.float()).sum().backward()
        assert network.weight.grad is not None and not batch.images.is_inference()


@pytest.mark.parametrize("start", [1, 3, 8])
def test_any_start_continues_the_same_stream(source: PixelSource, start: int) -> None:
    whole = batches(source, 12)
    assert fingerprints(batches(source, 12 - start, start_position=24 * start)) == fingerprints(whole[start:])
    assert [part.position for part in whole] == [24 * step for step in range(12)]


def test_an_epoch_shows_every_sample_once(source: PixelSource) -> None:
    """Untouched views, compared with the shards read directly."""
    parts = batches(source, 1, batch=100, fraction=0.5, augment="none", image_size=24)
    expected = Counter()
    subset = subset_of(source, 0.5)
    for shard_id, count in zip(subset.shard_ids.tolist(), subset.counts.tolist(), strict=True):
        expected.update(source.get(shard_id, index)[0].transpose(2, 0, 1).tobytes() for index in range(count))
    assert Counter(fingerprints(parts)) == expected
    assert sum(expected.values()) == 100


def test_decoding_once_gives_what_decoding_always_gives(tiny_data: Path) -> None:
    manifest = load_manifest(tiny_data / "train.json")
    kept, fresh = PixelSource(manifest), PixelSource(manifest, cache_bytes=0)
    assert fingerprints(batches(kept, 20)) == fingerprints(batches(fresh, 20))


@pytest.fixture(scope="module")
def damaged_photographs(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """One image of each kind of damage, at a tenth, a half and nine tenths of the data, of which many are refused."""
    folder = tmp_path_factory.mktemp("damaged")
    kinds = itertools.cycle(WHOLE.values())
    with TarWriter(str(folder / "0.tar")) as writer:
        for number, (place, damage) in enumerate(itertools.product((0.1, 0.5, 0.9), DAMAGES.values())):
            encoded = next(kinds)
            start = scan_offset(encoded) + 14
            at = start + int(place * (len(encoded) - 3 - start))
            writer.write({"__key__": f"{number:03d}", "jpg": damage(encoded, at, 7919 * number % 2**16), "cls": 0})
    index_shards(expand_urls([str(folder)]), folder / "m.json", name="damaged")
    return load_manifest(folder / "m.json")


def views_and_stand_ins(
    manifest: Manifest, cache_bytes: int = 0, **settings: object
) -> tuple[list[bytes], list[tuple[tuple[int, int], ...]]]:
    source = PixelSource(manifest, cache_bytes=cache_bytes)
    parts = batches(source, 8, max_corrupt=len(DAMAGES) * 3, **settings)
    return fingerprints(parts), [part.corrupt for part in parts]


def test_damage_is_met_alike_whether_images_are_remembered_or_not(
    damaged_photographs: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where a crop does not need the damaged rows: which image stands in must not hang on what was kept, on
    threads, or on whether parts of images can be decoded alone."""
    expected = views_and_stand_ins(damaged_photographs)
    assert 10 < len(set(itertools.chain(*expected[1]))) < len(DAMAGES) * 3 - 10
    for cache_bytes in (2**20, 2**30):
        assert views_and_stand_ins(damaged_photographs, cache_bytes) == expected
    assert views_and_stand_ins(damaged_photographs, threads=3) == expected
    monkeypatch.setattr(decode, "load_library", lambda: None)
    assert views_and_stand_ins(damaged_photographs) == expected


def test_evaluation_sees_each_sample_once_in_order_and_ranks_share_it_out(tiny_data: Path) -> None:
    source = PixelSource(load_manifest(tiny_data / "val.json"))
    options = {"batch": 7, "image_size": 16, "transform": "upstream"}
    loader = EvalLoader(source, **options)  # type: ignore[arg-type]
    labels = torch.cat([part.labels for part in loader])[:, 0].tolist()
    direct = [label for number in range(2) for (label,) in source.shard_labels(number)]
    assert labels == direct
    again = torch.cat([part.labels for part in loader])[:, 0].tolist()
    assert again == direct
    shares = [EvalLoader(source, rank=rank, world=3, **options) for rank in range(3)]  # type: ignore[arg-type]
    views = [view for share in shares for view in fingerprints(list(share))]
    assert Counter(views) == Counter(fingerprints(list(loader)))


@pytest.mark.parametrize("kind", ["patches_and_pixels", "global"])
def test_one_permutation_serves_training_and_evaluation(source: PixelSource, kind: str) -> None:
    """Batches are those of the plain loaders with their pixels rearranged, labels untouched."""
    plan = InputPlan(permute=kind, patch_size=4, seed=3)  # type: ignore[arg-type]
    permutation = planned_permutation(plan, 16)
    assert permutation is not None
    options = {"batch": 7, "image_size": 16, "transform": "upstream"}
    pairs = [
        *zip(batches(source, 3), batches(source, 3, permutation=permutation), strict=True),
        *zip(
            EvalLoader(source, **options),  # type: ignore[arg-type]
            EvalLoader(source, **options, permutation=permutation),  # type: ignore[arg-type]
            strict=True,
        ),
    ]
    for plain, shuffled in pairs:
        pixels = plain.images.flatten(2).numpy()
        assert np.array_equal(shuffled.images.flatten(2).numpy(), pixels[..., permutation])
        assert torch.equal(shuffled.labels, plain.labels)


def test_a_batch_that_does_not_divide_names_what_does(source: PixelSource) -> None:
    with pytest.raises(UserError, match=r"24 does not divide over 5.*1, 2, 3, 4, 6, 8"):
        batches(source, 1, world=5)


def test_multi_label_sets_are_padded(tmp_path: Path) -> None:
    with TarWriter(str(tmp_path / "a.tar")) as writer:
        for number, labels in enumerate([[0], [2, 1], [], [0, 1, 2]]):
            pixels = np.full((8, 8, 3), number, np.uint8)
            writer.write({"__key__": str(number), "png": png(pixels), "json": {"labels": labels}})
    manifest = index_shards(expand_urls([str(tmp_path)]), tmp_path / "m.json", name="multi")
    assert manifest.label_type == "multi"
    loader = EvalLoader(PixelSource(manifest), batch=4, image_size=8, transform="fewshot")
    assert next(iter(loader)).labels.tolist() == [[0, -1, -1], [2, 1, -1], [-1, -1, -1], [0, 1, 2]]


def test_trouble_in_a_thread_reaches_the_consumer_with_shard_and_key(tiny_data: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_data / "train", tmp_path / "train")
    victim = tmp_path / "train" / "shard-002.tar"
    with tarfile.open(victim) as tar:
        member = next(member for member in tar if member.name == "0020007.png")
    data = bytearray(victim.read_bytes())
    data[member.offset_data : member.offset_data + member.size] = bytes(member.size)
    victim.write_bytes(data)
    manifest = index_shards(expand_urls([str(tmp_path / "train")]), tmp_path / "m.json", name="x")
    with pytest.raises(CorruptSampleError, match=r"shard-002\.tar.*0020007"):
        batches(PixelSource(manifest), 20)


def test_a_label_beyond_the_classes_is_told(tiny_data: Path, tmp_path: Path) -> None:
    body = json.loads((tiny_data / "train.json").read_text())
    manifest = load_manifest(tiny_data / "train.json")
    narrow = PixelSource(replace(manifest, classes=tuple(body["classes"][:2])))
    with pytest.raises(CorruptSampleError, match="2 classes"):
        batches(narrow, 20)


def test_leaving_early_leaves_no_thread(source: PixelSource) -> None:
    before = set(threading.enumerate())
    for _ in range(3):
        batches(source, 1)
    assert set(threading.enumerate()) <= before
