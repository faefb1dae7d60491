"""Excluded samples: a subset without them is as exact, nested and orderly as one of data that never held them."""

import itertools
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from scaling.data.format.exclusion_list import load_exclusion, make_exclusion, save_exclusion
from scaling.data.format.load_manifest import load_manifest
from scaling.data.format.manifest import Manifest, build_manifest
from scaling.data.read.loader import TrainLoader
from scaling.data.read.pixels import PixelSource
from scaling.data.select.exclusion import NO_EXCLUSION, Exclusion
from scaling.data.select.order import SampleOrder
from scaling.data.select.subset import select_subset
from scaling.errors import UserError
from scaling.launch.study_dir import PlannedRun
from scaling.records.result import RunResult
from tests.support.local_runs import train_all

RNG = np.random.default_rng(0)
FRACTIONS = (0.03, 0.1, 0.3, 1.0)


def data_of(shard_samples: list[int]) -> Manifest:
    """A manifest of shards that need not exist."""
    names = [f"{number}.tar" for number in range(len(shard_samples))]
    return build_manifest(
        name="m",
        label_type="single",
        classes=["a"],
        folder=Path(),
        urls=names,
        num_samples=shard_samples,
        num_bytes=[1] * len(names),
        sha256=names,
        origin={},
    )


def draw_exclusion(manifest: Manifest, share: float) -> Exclusion:
    places = [(s, i) for s, n in enumerate(manifest.shard_samples.tolist()) for i in range(n)]
    return make_exclusion(manifest, [place for place in places if RNG.random() < share])


SHAPES = [[7] * 30, [1, 0, 40, 3, 3, 19, 2, 60], [500], [3] * 7]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("share", [0.02, 0.3, 0.9])
def test_subsets_are_exact_nested_and_without_the_excluded(shape: list[int], share: float) -> None:
    manifest = data_of(shape)
    exclusion = draw_exclusion(manifest, share)
    out = set(zip(exclusion.shard_ids.tolist(), exclusion.indices.tolist(), strict=True))
    smaller: set[tuple[int, int]] = set()
    for fraction in FRACTIONS:
        subset = select_subset(manifest, fraction, 5, exclusion)
        members = {(s, i) for p, s in enumerate(subset.shard_ids.tolist()) for i in subset.indices_of(p)}
        assert len(members) == subset.num_samples == max(1, round(fraction * (sum(shape) - len(out))))
        assert smaller <= members and not members & out
        smaller = members
        for epoch in (0, 3):
            positions = np.arange(subset.num_samples) + epoch * subset.num_samples
            visited = Counter(zip(*(part.tolist() for part in SampleOrder(subset, 1).locate(positions)), strict=True))
            assert visited == Counter(members)
    assert len(members) + len(out) == sum(shape)


def test_the_samples_kept_stay_in_tar_order() -> None:
    """Against the plain definition, a list with holes."""
    manifest = data_of([20, 0, 31, 4])
    for _ in range(20):
        exclusion = draw_exclusion(manifest, RNG.uniform(0.05, 0.8))
        for shard, count in enumerate(manifest.shard_samples.tolist()):
            gone = set(exclusion.indices[exclusion.shard_ids == shard].tolist())
            kept = [index for index in range(count) if index not in gone]
            places = np.arange(len(kept))
            assert exclusion.skip(np.full_like(places, shard), places).tolist() == kept


def test_streams_of_large_subsets_pass_over_them_too() -> None:
    manifest = data_of([1000] * 90)
    exclusion = draw_exclusion(manifest, 0.1)
    subset = select_subset(manifest, 1.0, 0, exclusion)
    order = SampleOrder(subset, 0)
    assert order.num_streams > 1
    shards, indices = order.locate(np.arange(subset.num_samples))
    keys = shards * 1000 + indices
    gone = exclusion.shard_ids * 1000 + exclusion.indices
    assert np.array_equal(np.sort(keys), np.setdiff1d(np.arange(90_000), gone))


def test_no_list_and_an_empty_list_change_nothing() -> None:
    manifest = data_of([9, 9, 9])
    plain = select_subset(manifest, 0.5, 0)
    assert select_subset(manifest, 0.5, 0, make_exclusion(manifest, [])).digest == plain.digest
    digests = {select_subset(manifest, 0.5, 0, make_exclusion(manifest, [(0, i)])).digest for i in range(9)}
    assert len(digests | {plain.digest}) == 10


def test_a_list_survives_its_file(tmp_path: Path) -> None:
    manifest = data_of([10, 20, 30])
    exclusion = make_exclusion(manifest, [(2, 7), (0, 1), (2, 7), (2, 3)])
    save_exclusion(exclusion, manifest, tmp_path / "exclude.json", {"made_by": "hand"})
    again = load_exclusion(tmp_path / "exclude.json", manifest)
    assert again.digest == exclusion.digest and len(again) == 3
    assert again.indices.tolist() == [1, 3, 7]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"data_digest": "0" * 64}, "is of another data set"),
        ({"schema": 9}, "is of another schema"),
        ({"samples": {"shard": [0], "index": [10]}}, "beyond the end of its shard"),
        ({"samples": {"shard": [3], "index": [0]}}, "there are 3 shards"),
        ({"samples": {"shard": [0], "index": [-1]}}, "beyond the end of its shard"),
        ({"samples": {"shard": [0, 1], "index": [0]}}, "is not one that this version reads"),
        ({"samples": {"shard": [0.5], "index": [0]}}, "is of another schema"),
        ({"samples": 3}, "is not one that this version reads"),
    ],
)
def test_a_list_that_does_not_fit_is_refused(change: dict[str, object], told: str, tmp_path: Path) -> None:
    manifest = data_of([10, 20, 30])
    save_exclusion(NO_EXCLUSION, manifest, tmp_path / "e.json", {})
    body = json.loads((tmp_path / "e.json").read_text())
    (tmp_path / "e.json").write_text(json.dumps(body | change))
    with pytest.raises(UserError, match=told):
        load_exclusion(tmp_path / "e.json", manifest)
    with pytest.raises(UserError, match="cannot be read"):
        load_exclusion(tmp_path / "absent.json", manifest)
    with pytest.raises(UserError, match="nothing is left"):
        make_exclusion(manifest, [(s, i) for s, n in enumerate((10, 20, 30)) for i in range(n)])


def test_batches_hold_no_excluded_image_on_any_number_of_processes(tiny_data: Path) -> None:
    source = PixelSource(load_manifest(tiny_data / "train.json"))
    exclusion = draw_exclusion(source.manifest, 0.2)
    subset = select_subset(source.manifest, 1.0, 0, exclusion)
    assert 100 < subset.num_samples < 190
    banned = {
        source.get(s, i).pixels.tobytes()
        for s, i in zip(exclusion.shard_ids.tolist(), exclusion.indices.tolist(), strict=True)
    }

    def seen(world: int) -> list[Counter[bytes]]:
        loaders = [
            TrainLoader(source, subset, seed=0, batch=24, image_size=24, augment="none", rank=rank, world=world)
            for rank in range(world)
        ]
        parts = zip(*(itertools.islice(loader, 12) for loader in loaders), strict=True)
        return [
            Counter(image.permute(1, 2, 0).numpy().tobytes() for part in step for image in part.images)
            for step in parts
        ]

    alone = seen(1)
    assert alone == seen(2) == seen(3)
    assert not banned & set().union(*alone)


def test_a_study_trains_without_the_excluded(
    plan_tiny: Callable[..., list[PlannedRun]], tiny_data: Path, tmp_path: Path
) -> None:
    manifest = load_manifest(tiny_data / "train.json")
    path = tmp_path / "exclude.json"
    save_exclusion(make_exclusion(manifest, [(s, 3) for s in range(5)]), manifest, path, {})
    options = ("protocol.steps=4", "defaults.warmup=1steps")
    (plain,) = plan_tiny(*options, name="plain")
    (run,) = plan_tiny(*options, f"data.exclude={path}", name="without")
    assert plain.plan.subset.num_samples == 100
    assert run.plan.subset.num_samples == round(0.5 * 195)
    assert run.plan.identity != plain.plan.identity
    train_all([run])
    assert RunResult.load(run.run_dir) is not None
    save_exclusion(make_exclusion(manifest, [(0, 1)]), manifest, path, {})
    (changed,) = plan_tiny(*options, f"data.exclude={path}", name="again")
    assert changed.plan.identity != run.plan.identity
    with pytest.raises(UserError, match=r"data.exclude.*is of another data set"):
        save_exclusion(NO_EXCLUSION, data_of([3]), path, {})
        plan_tiny(*options, f"data.exclude={path}")
