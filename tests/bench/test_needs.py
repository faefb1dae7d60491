"""What a study will need on a cluster: arithmetic that a person can repeat, every assumption on the page."""

import itertools
from pathlib import Path

import pytest

from scaling.bench.command import main
from scaling.bench.needs.cluster import Assumptions, makespan_seconds, run_needs
from scaling.errors import UserError
from scaling.launch.price.forecast import RateBook
from tests.support.run_plans import run_plan

SWEEP = Path(__file__).parents[2] / "sweeps/data_size.yaml"


def assumed(**values) -> Assumptions:
    defaults = {
        "devices": 64,
        "devices_per_run": 8,
        "devices_per_node": 8,
        "device": "NVIDIA H100 80GB HBM3",
        "mfu": {"*": 0.5},
        "lost_share": 0.2,
        "image_bytes": 1e5,
        "shard_images": 1000,
        "images_per_core_second": 500.0,
        "request_bytes": 8e6,
        "cache_bytes": 0.0,
        "keep_checkpoints": 2,
        "price": None,
        "currency": "USD",
    }
    return Assumptions(**{**defaults, **values})


def test_a_run_needs_what_its_flops_and_images_say() -> None:
    plan = run_plan(steps=1000, flops=1e9)
    images, flops = (
        plan.schedule.steps * plan.schedule.batch,
        plan.train_flops(plan.schedule.steps * plan.schedule.batch),
    )
    seconds = flops / (989e12 * 0.5 * 8)
    needs = run_needs(plan, assumed(), RateBook())
    assert needs.wall_seconds == pytest.approx(seconds / 0.8)
    assert needs.images_per_second == pytest.approx(images / seconds)
    assert needs.decoding_cores_per_device == pytest.approx(images / seconds / 8 / 500)
    assert needs.read_bytes == pytest.approx(1000 * 1e5 * max(1.0, plan.schedule.epochs))  # 10 % of 10,000 images
    assert needs.checkpoint_bytes == 16 * plan.model.num_params


def test_a_cache_reads_a_subset_once_and_every_node_reads_all_of_it() -> None:
    plan = run_plan(steps=100_000)
    none = run_needs(plan, assumed(), RateBook())
    cached = run_needs(plan, assumed(cache_bytes=1000 * 1e5), RateBook())
    assert none.read_bytes == pytest.approx(plan.schedule.epochs * cached.read_bytes) and plan.schedule.epochs > 2
    four_nodes = run_needs(plan, assumed(devices_per_run=32), RateBook())
    assert four_nodes.read_bytes == pytest.approx(4 * none.read_bytes)


def test_measured_rates_are_preferred_to_declared_ones() -> None:
    plan = run_plan(num_devices=8)
    book = RateBook()
    book.add(plan, device="some GPU", num_devices=8, flops=1e9, seconds=1.0)
    needs = run_needs(plan, assumed(lost_share=0.0), book)
    assert needs.is_measured and needs.wall_seconds == pytest.approx(
        plan.train_flops(plan.schedule.steps * plan.schedule.batch) / 1e9
    )
    assert not run_needs(plan, assumed(devices_per_run=4), book).is_measured


def test_makespan_lies_between_the_best_of_all_orders_and_four_thirds_of_it() -> None:
    """Longest first is within 4/3 of the best (Graham 1969); the best is found by trying all placements."""
    seconds = [7.0, 5.0, 4.0, 3.0, 3.0, 2.0]
    best = min(
        max(sum(s for s, at in zip(seconds, places, strict=True) if at == slot) for slot in range(3))
        for places in itertools.product(range(3), repeat=len(seconds))
    )
    assert best <= makespan_seconds(seconds, 3) <= 4 / 3 * best
    assert makespan_seconds(seconds, 1) == sum(seconds)


def test_the_page_names_every_assumption(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["needs", str(SWEEP), "--mfu", "*=0.35", "--price", "2.5"]) == 0
    page = capsys.readouterr().out
    for option in ("--devices", "--mfu | *=0.35", "--lost-share", "--image-bytes", "--cache-gb", "--price | 2.5 USD"):
        assert option in page
    assert "28, 8 at a time" in page and page.count("MFU 35%") == 7


@pytest.mark.parametrize(
    "options",
    [["--mfu", "mixer-*=0.3"], ["--mfu", "*=35"], ["--device", "H100"], ["--devices", "60"], ["--lost-share", "1"],
     ["--image-bytes", "nan"], ["--request-bytes", "inf"], ["--price", "-1"], ["--keep-checkpoints", "0"]],
)  # fmt: skip
def test_what_cannot_be_is_refused(options: list[str]) -> None:
    with pytest.raises(UserError, match=options[0]):
        main(["needs", str(SWEEP), *options])
