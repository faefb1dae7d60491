"""Held-out training samples: exact, disjoint, a function of the seed, and any sample as likely as another."""

from pathlib import Path

import numpy as np
import pytest

from scaling.data.format.exclusion_list import hold_out
from scaling.data.format.manifest import Manifest, build_manifest
from scaling.data.select.order import SampleOrder
from scaling.data.select.subset import select_subset


def manifest(*shard_samples: int) -> Manifest:
    return build_manifest(
        name="held",
        label_type="single",
        classes=["a", "b"],
        folder=Path("/data"),
        urls=[f"{number}.tar" for number in range(len(shard_samples))],
        num_samples=list(shard_samples),
        num_bytes=[1] * len(shard_samples),
        sha256=[f"{number:064x}" for number in range(len(shard_samples))],
        origin={},
    )


@pytest.mark.parametrize("num_samples", [1, 7, 50, 99])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_two_parts_are_disjoint_and_together_all(num_samples: int, seed: int) -> None:
    data = manifest(40, 0, 1, 59)
    held = hold_out(data, num_samples, seed)
    assert len(held.positions) == len(held.exclusion) == num_samples
    assert list(held.positions) == sorted(set(held.positions.tolist()))
    subset = select_subset(data, 1.0, 0, held.exclusion)
    assert subset.num_samples == 100 - num_samples
    shards, indices = SampleOrder(subset, seed=3).locate(np.arange(subset.num_samples))
    starts = np.cumsum(data.shard_samples) - data.shard_samples
    trained = set((starts[shards] + indices).tolist())
    assert len(trained) == subset.num_samples
    assert trained | set(held.positions.tolist()) == set(range(100))


def test_seeds_draw_different_samples_and_the_same_seed_the_same() -> None:
    data = manifest(60, 60)
    draws = [hold_out(data, 12, seed) for seed in (0, 0, 1)]
    assert draws[0].exclusion.digest == draws[1].exclusion.digest != draws[2].exclusion.digest
    assert (draws[0].positions == draws[1].positions).all()


def test_every_sample_is_held_out_equally_often() -> None:
    """Of 2,000 draws of 5 of 20 each sample is in 500 on average; the standard deviation is 19."""
    data = manifest(12, 8)
    counts = np.zeros(20)
    for seed in range(2_000):
        counts[hold_out(data, 5, seed).positions] += 1
    assert counts.sum() == 10_000
    assert np.abs(counts - 500).max() < 5 * 19.4
