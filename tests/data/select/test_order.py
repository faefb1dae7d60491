"""The order of training: an exact permutation of the subset in every epoch, from any position, for any size."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scaling.data.format.manifest import Manifest, build_manifest
from scaling.data.select import order as order_module
from scaling.data.select.order import SampleOrder
from scaling.data.select.subset import select_subset


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


def pairs(order: SampleOrder, start: int, stop: int) -> list[tuple[int, int]]:
    shards, indices = order.locate(np.arange(start, stop))
    return list(zip(shards.tolist(), indices.tolist(), strict=True))


shard_lists = st.lists(st.integers(0, 40), min_size=1, max_size=12).filter(lambda sizes: sum(sizes) > 0)


@pytest.fixture(params=["uniform", "streams"])
def regime(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to shuffle, the second with sizes at which small subsets have many streams and windows."""
    if request.param == "streams":
        monkeypatch.setattr(order_module, "FULL_SHUFFLE", 0)
        monkeypatch.setattr(order_module, "NUM_STREAMS", 5)
        monkeypatch.setattr(order_module, "WINDOW", 4)
    return str(request.param)


def exact_epochs(sizes: list[int], fraction: float, seed: int) -> None:
    subset = select_subset(manifest_of(sizes), fraction, seed)
    members = {(s, i) for s, n in zip(subset.shard_ids.tolist(), subset.counts.tolist(), strict=True) for i in range(n)}
    assert len(members) == subset.num_samples == max(1, round(fraction * sum(sizes)))
    order = SampleOrder(subset, seed)
    n = subset.num_samples
    for epoch in range(3):
        assert sorted(pairs(order, epoch * n, (epoch + 1) * n)) == sorted(members)


@given(sizes=shard_lists, fraction=st.floats(0.01, 1.0), seed=st.integers(0, 5))
def test_each_epoch_is_the_subset_exactly_once(sizes: list[int], fraction: float, seed: int) -> None:
    exact_epochs(sizes, fraction, seed)


@given(sizes=shard_lists, fraction=st.floats(0.01, 1.0), seed=st.integers(0, 5))
def test_each_epoch_is_the_subset_exactly_once_in_streams(sizes: list[int], fraction: float, seed: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(order_module, "FULL_SHUFFLE", 0)
        patch.setattr(order_module, "NUM_STREAMS", 5)
        patch.setattr(order_module, "WINDOW", 4)
        exact_epochs(sizes, fraction, seed)


@given(sizes=shard_lists, seed=st.integers(0, 5), small=st.floats(0.01, 1.0), large=st.floats(0.01, 1.0))
def test_subsets_of_one_seed_are_nested(sizes: list[int], seed: int, small: float, large: float) -> None:
    small, large = sorted((small, large))
    manifest = manifest_of(sizes)

    def members(fraction: float) -> set[tuple[int, int]]:
        subset = select_subset(manifest, fraction, seed)
        return {
            (s, i) for s, n in zip(subset.shard_ids.tolist(), subset.counts.tolist(), strict=True) for i in range(n)
        }

    assert members(small) <= members(large)


def test_starting_anywhere_continues_the_same_order(regime: str) -> None:
    subset = select_subset(manifest_of([30, 7, 41, 22]), 0.9, 0)
    whole = pairs(SampleOrder(subset, 3), 0, 500)
    for start in (1, 17, 89, 90, 91, 333):
        assert pairs(SampleOrder(subset, 3), start, 500) == whole[start:]


def test_pieces_of_any_size_and_any_sharing_out_give_the_same_samples(regime: str) -> None:
    """Ranks take the positions of a batch by modulus; together they see what one process sees."""
    subset = select_subset(manifest_of([30, 7, 41, 22]), 1.0, 0)
    whole = pairs(SampleOrder(subset, 3), 0, 240)
    for world in (2, 3, 4, 8):
        ranks = [SampleOrder(subset, 3) for _ in range(world)]
        for batch_start in range(0, 240, 24):
            together = set()
            for rank, order in enumerate(ranks):
                shards, indices = order.locate(np.arange(batch_start + rank, batch_start + 24, world))
                together |= set(zip(shards.tolist(), indices.tolist(), strict=True))
            assert together == set(whole[batch_start : batch_start + 24])


def test_seeds_and_epochs_differ(regime: str) -> None:
    subset = select_subset(manifest_of([50, 50]), 1.0, 0)
    first = pairs(SampleOrder(subset, 0), 0, 100)
    assert pairs(SampleOrder(subset, 1), 0, 100) != first
    assert pairs(SampleOrder(subset, 0), 100, 200) != first


def test_a_small_subset_is_shuffled_uniformly() -> None:
    """Over many epochs each of 6 samples comes first about equally often: chi-square at 5 degrees of freedom."""
    subset = select_subset(manifest_of([3, 3]), 1.0, 0)
    order = SampleOrder(subset, 0)
    epochs = 3000
    shards, indices = order.locate(np.arange(epochs) * 6)
    counts = np.bincount(3 * shards + indices, minlength=6)
    chi_square = float(((counts - epochs / 6) ** 2 / (epochs / 6)).sum())
    assert chi_square < 20.5  # 99.9 % point


@settings(deadline=None)
@given(batch_number=st.integers(0, 200))
def test_a_batch_of_a_large_subset_mixes_many_shards(batch_number: int) -> None:
    """300 shards of 1,000: a batch of 256 takes 4 samples from each of 64 streams, so from about 64 shards."""
    order = _large_order()
    shards, _ = order.locate(np.arange(256) + 256 * batch_number)
    assert len(np.unique(shards)) >= 48


def _large_order() -> SampleOrder:
    return SampleOrder(select_subset(manifest_of([1000] * 300), 1.0, 0), 0)


def test_a_stream_reads_its_shards_one_after_the_other() -> None:
    """What one stream touches within a window spans a few neighbouring shards, not the whole data set."""
    order = _large_order()
    shards, _ = order.locate(np.arange(3000) * order.num_streams)
    assert len(np.unique(shards)) <= 3000 // 1000 + 3


def test_the_order_never_changes_by_accident() -> None:
    """A pinned order: if this fails, ORDER_VERSION must be raised, because old runs cannot be continued."""
    subset = select_subset(manifest_of([4, 3]), 1.0, 0)
    assert pairs(SampleOrder(subset, 0), 0, 7) == PINNED


PINNED = [(0, 3), (1, 1), (0, 2), (0, 0), (1, 0), (0, 1), (1, 2)]
