"""Rows of a batch are the views of their samples, however many samples are decoded before views are made."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from scaling.data.format.load_manifest import load_manifest
from scaling.data.read import rows
from scaling.data.read.images.transforms import Augmentation, evaluate_view
from scaling.data.read.pixels import PixelSource
from scaling.data.read.rows import EvalRows, Places, TrainRows
from scaling.data.select.subset import select_subset

SIZE, NUM_ROWS = 16, 30

ONE_IMAGE = 3 * SIZE * SIZE


@pytest.mark.parametrize("group_bytes", [1, ONE_IMAGE, 4 * ONE_IMAGE + 1, 2**20])
def test_rows_are_the_views_of_their_samples(
    group_bytes: int, tiny_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "GROUP_BYTES", group_bytes)
    manifest = load_manifest(tiny_data / "train.json")
    source, augment = PixelSource(manifest, cache_bytes=0), Augmentation("inception")
    draws = augment.draw(3, 0, NUM_ROWS)
    generator = np.random.default_rng(0)
    shards = generator.integers(0, len(manifest.urls), NUM_ROWS)
    places = Places(shards, generator.integers(0, manifest.shard_samples[shards]), draws)
    images = torch.empty(2, NUM_ROWS, SIZE, SIZE, 3, dtype=torch.uint8).permute(0, 1, 4, 2, 3)
    train = TrainRows(source, select_subset(manifest, 1.0, 0), augment, SIZE, None)
    evaluation = EvalRows(source, "upstream", SIZE, None)
    labels = [made.fill(images[number], places, refuse) for number, made in enumerate((train, evaluation))]

    for row, (shard, index) in enumerate(zip(places.shards.tolist(), places.indices.tolist(), strict=True)):
        sample, draw = source.get(shard, index), draws[row].tolist()
        crop = source.get(shard, index, partial(augment.crop, draw)).pixels
        assert torch.equal(images[0, row], augment.view(crop, draw, SIZE))
        assert torch.equal(images[1, row], evaluate_view(sample.pixels, "upstream", SIZE))
        assert labels[0][row] == labels[1][row] == sample.labels


def refuse(shard: int, index: int, error: Exception) -> None:
    raise error
