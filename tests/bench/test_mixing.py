"""What the mixing figures say, against cases that can be counted."""

from pathlib import Path

import numpy as np
import pytest

from scaling.bench.pipeline.planning import shards_if_uniform, shards_in_a_batch
from scaling.data.format.manifest import Manifest, build_manifest


def manifest_of(shard_samples: list[int]) -> Manifest:
    count = len(shard_samples)
    return build_manifest(
        name="t",
        label_type="single",
        classes=["a"],
        folder=Path("/nowhere"),
        urls=[f"{number}.tar" for number in range(count)],
        num_samples=shard_samples,
        num_bytes=[1] * count,
        sha256=[f"{number:064x}" for number in range(count)],
        origin={},
    )


def test_the_uniform_expectation_is_that_of_draws() -> None:
    manifest = manifest_of([100, 300, 600, 1000, 2000])
    generator = np.random.default_rng(0)
    shares = manifest.shard_samples / manifest.num_samples
    drawn = [len(np.unique(generator.choice(5, 8, p=shares))) for _ in range(4000)]
    error = np.std(drawn) / len(drawn) ** 0.5
    assert abs(np.mean(drawn) - shards_if_uniform(manifest, 8)) < 4 * error


def test_a_small_subset_mixes_as_a_uniform_shuffle_does() -> None:
    manifest = manifest_of([40] * 50)
    distinct, effective = shards_in_a_batch(manifest, 32)
    # A batch without repetition meets a little more shards than one with it: 23.9 against 23.8.
    assert distinct == pytest.approx(shards_if_uniform(manifest, 32), rel=0.06)
    assert effective <= distinct


def test_a_whole_epoch_is_all_shards_in_their_shares() -> None:
    assert shards_in_a_batch(manifest_of([10, 30]), 40) == (2.0, pytest.approx(40**2 / (10**2 + 30**2)))


def test_batches_of_a_large_set_come_from_at_least_as_many_shards_as_there_are_streams() -> None:
    manifest = manifest_of([1000] * 1000)
    distinct, effective = shards_in_a_batch(manifest, 256)
    assert 64 * 2 < distinct < shards_if_uniform(manifest, 256)
    assert effective > 64
