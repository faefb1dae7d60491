"""`micro_batch: auto`: what is tried, what is taken and remembered, with memory that runs out in a real step."""

import re
from pathlib import Path

import pytest

from scaling.errors import UserError
from scaling.records.attempts.contract import DONE
from scaling.records.reading import read_sealed, write_sealed
from scaling.records.result import RunResult
from scaling.records.run_dir import StudyDir
from scaling.train.step.micro_batch import _read_sizes, candidate_sizes, search
from tests.support.ranks import codes, start_run


def test_sizes_double_and_divide() -> None:
    assert candidate_sizes(16) == [1, 2, 4, 8, 16]
    assert candidate_sizes(96) == [1, 2, 4, 8, 16, 32, 96]
    assert candidate_sizes(7) == [1, 7]
    assert candidate_sizes(1) == [1]


@pytest.mark.parametrize("limit", [1, 3, 16, 40, 96, 500])
@pytest.mark.parametrize("starts_whole", [True, False])
def test_the_search_takes_the_largest_that_fits(limit: int, starts_whole: bool) -> None:
    found = search(96, lambda size: size <= limit, starts_whole=starts_whole)
    assert found == max(size for size in candidate_sizes(96) if size <= limit)


def test_what_never_fits_is_told() -> None:
    with pytest.raises(UserError, match="not even one image"):
        search(8, lambda size: False, starts_whole=True)


def small_memory(rank: int) -> None:
    """Memory for a forward pass of four images at a time on the second process, and for more on the first."""
    import torch

    from scaling.models.networks.vision_model import VisionModel

    forward = VisionModel.forward

    def limited(self, images):
        if self.training:
            print("passes of", len(images), flush=True)
        if self.training and len(images) > (4 if rank else 8):
            raise torch.cuda.OutOfMemoryError("injected")
        return forward(self, images)

    VisionModel.forward = limited


def old_memory(rank: int) -> None:
    """The second process still sees an older file, in which another size stands."""
    small_memory(rank)
    if rank:
        StudyDir.micro_batches = property(lambda study: study.path / "older.json")  # type: ignore[assignment]


@pytest.mark.parametrize("stage", [0, 2])
def test_a_run_finds_its_micro_batch_and_the_next_one_remembers(stage: int, plan_tiny) -> None:
    """With the global batch as planned, and the numbers of a run that was told the size; the process that has memory
    for more does not wait for the other."""
    options = ("protocol.steps=10", f"defaults.zero_stage={stage}")
    (auto,) = plan_tiny("defaults.micro_batch=auto", *options, name="auto")
    (told,) = plan_tiny("defaults.micro_batch=4", *options, name="told")
    assert auto.plan.identity == told.plan.identity
    assert codes(start_run(auto.run_dir, 2, small_memory)) == [DONE, DONE]
    assert codes(start_run(told.run_dir, 2)) == [DONE, DONE]
    remembered = StudyDir(auto.run_dir.parent).micro_batches
    results = [RunResult.load(run.run_dir) for run in (auto, told)]
    assert results[0] is not None and results[1] is not None
    assert results[0].metrics["upstream/loss"] == results[1].metrics["upstream/loss"]
    assert set(read_sealed(remembered).values()) == {4}
    log = (auto.run_dir / "log.txt").read_text()
    assert log.index("passes of 8") < log.index("passes of 1\n")
    (auto.run_dir / "result.json").unlink()
    for checkpoint in (auto.run_dir / "checkpoints").glob("step_*/COMPLETE"):
        checkpoint.unlink()
    (auto.run_dir / "log.txt").unlink()
    write_sealed(remembered.with_name("older.json"), dict.fromkeys(read_sealed(remembered), 2))
    assert codes(start_run(auto.run_dir, 2, old_memory)) == [DONE, DONE]
    again = (auto.run_dir / "log.txt").read_text()
    assert {int(size) for size in re.findall(r"passes of (\d+)", again)} == {4}


@pytest.mark.parametrize("content", [b"", b"[3]", b'{"a": "x"', b"\0" * 9, b'{"a": 4}'])
def test_a_damaged_memory_is_searched_again(content: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "micro_batches.json").write_bytes(content)
    assert _read_sizes(tmp_path / "micro_batches.json") == {}
    assert "searched again" in caplog.text
