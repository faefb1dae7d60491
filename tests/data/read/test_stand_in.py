"""Unusable samples: an error by default; within an allowed number another sample of the subset stands in."""

import itertools
from collections import Counter
from pathlib import Path

import pytest

from scaling.data.format.manifest import Manifest
from scaling.data.read.loader import Batch, EvalLoader, TrainLoader
from scaling.data.read.pixels import PixelSource
from scaling.data.select.subset import select_subset
from scaling.data.storage.integrity import CorruptSampleError
from tests.support.damaged_data import write_damaged


@pytest.fixture
def damaged(tiny_data: Path, tmp_path: Path) -> Manifest:
    return write_damaged(tiny_data, tmp_path)


def epoch(manifest: Manifest, max_corrupt: int, rank: int = 0, world: int = 1) -> list[Batch]:
    loader = TrainLoader(
        PixelSource(manifest),
        select_subset(manifest, 1.0, 0),
        seed=0,
        batch=20,
        image_size=24,
        augment="none",
        rank=rank,
        world=world,
        max_corrupt=max_corrupt,
    )
    return list(itertools.islice(loader, 10))


def views(parts: list[Batch]) -> Counter[bytes]:
    return Counter(view.numpy().tobytes() for part in parts for view in part.images)


def test_one_more_than_allowed_is_an_error_with_shard_key_and_counts(damaged: Manifest) -> None:
    with pytest.raises(CorruptSampleError, match=r"shard-00[13]\.tar.*00[13]00.*1 unusable samples met, and 0 allowed"):
        epoch(damaged, max_corrupt=0)
    with pytest.raises(CorruptSampleError, match="3 unusable samples met, and 2 allowed"):
        epoch(damaged, max_corrupt=2)


def test_stand_ins_keep_the_count_and_are_counted(damaged: Manifest) -> None:
    parts = epoch(damaged, max_corrupt=3)
    assert sum(len(set(part.corrupt)) for part in parts) == 3
    seen = views(parts)
    assert sum(seen.values()) == 200
    # 197 usable samples, of which the last of a shard and the one before the third broken one stand in.
    assert sorted(seen.values())[-2:] == [2, 3]
    assert len(seen) == 197


def test_ranks_agree_about_stand_ins(damaged: Manifest) -> None:
    ranks = [epoch(damaged, max_corrupt=3, rank=rank, world=2) for rank in range(2)]
    assert views(ranks[0] + ranks[1]) == views(epoch(damaged, max_corrupt=3))


def test_evaluation_never_replaces(damaged: Manifest) -> None:
    loader = EvalLoader(PixelSource(damaged), batch=50, image_size=24, transform="upstream")
    with pytest.raises(CorruptSampleError, match="0010000"):
        list(loader)
