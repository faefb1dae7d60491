"""Starting anywhere costs what starting at zero costs: counted in reads, bytes and drawn numbers, not in seconds."""

import os
from pathlib import Path

import numpy as np
import pytest

from scaling.data.format.load_manifest import load_manifest
from scaling.data.format.manifest import Manifest, build_manifest
from scaling.data.read.pixels import PixelSource
from scaling.data.select import order as order_module
from scaling.data.select.order import SampleOrder
from scaling.data.select.subset import select_subset


@pytest.fixture
def streams(monkeypatch: pytest.MonkeyPatch) -> None:
    """Five streams with windows of eight, so that 200 samples in 5 shards behave like a large data set."""
    monkeypatch.setattr(order_module, "FULL_SHUFFLE", 0)
    monkeypatch.setattr(order_module, "NUM_STREAMS", 5)
    monkeypatch.setattr(order_module, "WINDOW", 8)


def reads_of_first_batch(manifest: Manifest, position: int, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Bytes of each read, from a cold start to the batch of 20 at `position`."""
    sizes: list[int] = []
    original = os.pread

    def counting(descriptor: int, size: int, offset: int) -> bytes:
        data = original(descriptor, size, offset)
        sizes.append(len(data))
        return data

    monkeypatch.setattr(os, "pread", counting)
    source = PixelSource(manifest)
    order = SampleOrder(select_subset(manifest, 1.0, 0), 0)
    for shard, index in zip(*order.locate(np.arange(position, position + 20)), strict=True):
        source.get(int(shard), int(index))
    monkeypatch.undo()
    return sizes


@pytest.mark.parametrize("position", [0, 60, 1_000, 200_000, 200_140])
def test_reads_do_not_grow_with_the_position(
    streams: None, tiny_data: Path, monkeypatch: pytest.MonkeyPatch, position: int
) -> None:
    """The shards of five streams are indexed, at most one read of 4 KB a member, and two reads fetch each sample:
    wherever the run starts, also a thousand epochs in."""
    manifest = load_manifest(tiny_data / "train.json")
    sizes = reads_of_first_batch(manifest, position, monkeypatch)
    assert 40 < len(sizes) <= 5 * (40 * 2 + 1) + 20 * 2
    assert sum(sizes) <= len(sizes) * 4096


def large_manifest(num_shards: int) -> Manifest:
    return build_manifest(
        name="large",
        label_type="multi",
        classes=["a"],
        folder=Path("/nowhere"),
        urls=[f"{number}.tar" for number in range(num_shards)],
        num_samples=[1000] * num_shards,
        num_bytes=[1] * num_shards,
        sha256=[f"{number:064x}" for number in range(num_shards)],
        origin={},
    )


@pytest.mark.parametrize("position", [0, 10**5, 10**8, 10**11])
def test_locating_a_batch_draws_one_shard_order_and_one_window_per_stream(
    position: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = SampleOrder(select_subset(large_manifest(2000), 1.0, 0), 0)
    drawn: list[tuple[int, ...]] = []
    original = order_module.generator
    monkeypatch.setattr(order_module, "generator", lambda *key: drawn.append(key) or original(*key))
    order.locate(np.arange(position, position + 512))
    # At the edge of an epoch or of the windows there are two of each.
    assert 65 <= len(drawn) <= 2 * 65
