"""Real runs on photographs of which some are cut short: refused, or allowed in a number and counted once each."""

import io
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import webdataset
from PIL import Image

from scaling.data.format.index import expand_urls, index_shards
from scaling.data.storage.integrity import CorruptSampleError
from scaling.records.attempts.contract import BAD_INPUT, DONE, PREEMPTED
from scaling.records.events import read_events
from scaling.records.result import RunResult
from scaling.records.state import RunState
from tests.support.ranks import codes, leave_at, start_run

TRUNCATED = {(0, 5), (0, 6), (2, 31)}


def jpeg(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=90)
    return stream.getvalue()


@pytest.fixture
def truncated(tiny_data: Path, tmp_path: Path) -> str:
    """Four shards of 32 JPEGs, three of which lack their second half; the option that trains on all of them."""
    generator = np.random.default_rng(0)
    for shard in range(4):
        (tmp_path / "data").mkdir(exist_ok=True)
        with webdataset.TarWriter(str(tmp_path / "data" / f"shard-{shard}.tar")) as writer:
            for number in range(32):
                encoded = jpeg(generator.integers(0, 256, (24, 24, 3), dtype=np.uint8))
                if (shard, number) in TRUNCATED:
                    encoded = encoded[: len(encoded) // 2]
                writer.write({"__key__": f"{shard}-{number:02d}", "jpg": encoded, "cls": str(number % 4)})
    manifest = tmp_path / "data" / "train.json"
    index_shards(expand_urls([str(tmp_path / "data")]), manifest, name="truncated")
    return f"data.train={manifest}"


def counts(run_dir: Path) -> list[float]:
    return [
        event.metrics["num_corrupt"]
        for event in read_events(run_dir / "events.jsonl").events
        if "loss" in event.metrics
    ]


def test_by_default_a_truncated_picture_ends_the_run_with_shard_and_key(truncated: str, plan_tiny) -> None:
    (run,) = plan_tiny(truncated, "grid.fraction=[1.0]")
    assert codes(start_run(run.run_dir, 1)) == [BAD_INPUT]
    error = RunState.load(run.run_dir).error
    assert "truncated" in error and "shard-" in error and "1 unusable samples met, and 0 allowed" in error
    assert "data.max_corrupt" in error


@pytest.mark.parametrize("world", [1, 2])
def test_allowed_ones_are_counted_once_over_epochs_processes_and_restarts(
    world: int, truncated: str, plan_tiny
) -> None:
    """30 steps of 16 pass 3.75 times over 128 images."""
    options = (truncated, "grid.fraction=[1.0]", "data.max_corrupt=3", f"launch.devices_per_run={world}")
    (unbroken,) = plan_tiny(*options, name="unbroken")
    (broken,) = plan_tiny(*options, name="broken")
    assert codes(start_run(unbroken.run_dir, world)) == [DONE] * world
    assert codes(start_run(broken.run_dir, world, partial(leave_at, step=9))) == [PREEMPTED] * world
    assert codes(start_run(broken.run_dir, world)) == [DONE] * world
    for run in (unbroken, broken):
        result = RunResult.load(run.run_dir)
        assert result is not None and result.metrics["num_corrupt"] == 3
    assert counts(unbroken.run_dir) == sorted(counts(unbroken.run_dir))
    assert counts(unbroken.run_dir)[-1] == 3


def test_the_budget_is_of_all_processes_together(truncated: str, plan_tiny) -> None:
    (run,) = plan_tiny(truncated, "grid.fraction=[1.0]", "data.max_corrupt=2", "launch.devices_per_run=2")
    assert set(codes(start_run(run.run_dir, 2))) == {BAD_INPUT}
    assert "unusable samples met" in RunState.load(run.run_dir).error


def test_the_budget_makes_no_other_run(truncated: str, plan_tiny) -> None:
    """A run that met its limit goes on when more is allowed."""
    (strict,) = plan_tiny(truncated)
    (lenient,) = plan_tiny(truncated, "data.max_corrupt=3")
    assert (strict.plan.identity, strict.run_dir) == (lenient.plan.identity, lenient.run_dir)
    assert lenient.plan.engine.max_corrupt == 3


class TwoProcesses:
    """Two processes' lists as a gather would bring them together."""

    world = 2
    device = torch.device("cpu")

    def __init__(self, other: list[tuple[int, int]]) -> None:
        self.other = other

    def gather(self, values: torch.Tensor) -> list[torch.Tensor]:
        theirs = torch.full_like(values, -1)
        for row, place in enumerate(self.other):
            theirs[row] = torch.tensor(place)
        return [values, theirs]


def test_places_of_all_processes_are_joined_and_the_budget_holds_for_the_union() -> None:
    from scaling.train.corruption import CorruptTally

    tally = CorruptTally(3, [[0, 5]], TwoProcesses([(0, 5), (2, 31)]))  # type: ignore[arg-type]
    assert tally.agree() == [(0, 5), (2, 31)]
    tally.places |= {(1, 1), (1, 2), (1, 3)}
    with pytest.raises(CorruptSampleError, match="different unusable samples met by all processes together, and 3"):
        tally.agree()
