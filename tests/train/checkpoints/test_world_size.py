"""A run saved by some number of processes and ZeRO stage goes on with another: same samples, same curve."""

import shutil
import time
from pathlib import Path

import pytest

from scaling.launch.study_dir import PlannedRun
from scaling.records.events import read_events
from tests.support.ranks import codes, start_run
from tests.support.run_folders import checkpoints, steps_saved

CURVES = ("loss", "grad_norm", "upstream/loss")


def curves(run_dir: Path, after: int) -> dict[str, list[float]]:
    """Logged values past a step."""
    log = read_events(run_dir / "events.jsonl").events
    events = [event for event in log if event.step > after and event.kind in ("step", "eval")]
    return {name: [event.metrics[name] for event in events if name in event.metrics] for name in CURVES}


def go_back_to(step: int, run: PlannedRun, copy: Path) -> Path:
    """A copy of a finished run as it was right after the checkpoint of `step`."""
    shutil.copytree(run.run_dir, copy)
    (copy / "result.json").unlink()
    for checkpoint, saved in zip(checkpoints(copy), steps_saved(copy), strict=True):
        if saved > step:
            shutil.rmtree(checkpoint)
    return copy


@pytest.mark.parametrize("zero_stage", [0, 1, 2])
def test_one_two_and_four_processes_follow_one_curve(zero_stage: int, plan_tiny, tmp_path: Path) -> None:
    """Within 1e-4 over 50 steps: sums over parts of a batch round differently, and training amplifies that."""
    options = ("protocol.steps=60", "defaults.keep_checkpoints=12", f"defaults.zero_stage={zero_stage}")
    (run,) = plan_tiny(*options, "defaults.micro_batch=4", "defaults.checkpoint_every=5steps")
    assert codes(start_run(run.run_dir, 1)) == [0]
    expected = curves(run.run_dir, after=10)
    assert len(expected["loss"]) == 10
    for world in (2, 4):
        resumed = go_back_to(10, run, tmp_path / f"on-{world}")
        assert codes(start_run(resumed, world)) == [0] * world
        starts = [event.step for event in read_events(resumed / "events.jsonl").events if event.kind == "start"]
        assert starts == [0, 10]
        for name, curve in curves(resumed, after=10).items():
            assert curve == pytest.approx(expected[name], rel=1e-4), name


def test_zero_stages_read_each_others_checkpoints(plan_tiny, tmp_path: Path) -> None:
    """Stage and number of processes that save, and that continue."""
    for saved, continued in (((1, 2), (0, 1)), ((0, 1), (2, 2)), ((2, 2), (1, 1))):
        name = f"saved-by-zero-{saved[0]}"
        (run,) = plan_tiny(f"defaults.zero_stage={saved[0]}", "defaults.keep_checkpoints=9", name=name)
        assert codes(start_run(run.run_dir, saved[1])) == [0] * saved[1]
        resumed = go_back_to(10, run, tmp_path / f"continued-by-zero-{continued[0]}")
        plan = run.plan.model_copy(update={"engine": run.plan.engine.model_copy(update={"zero_stage": continued[0]})})
        plan.save(resumed)
        assert codes(start_run(resumed, continued[1])) == [0] * continued[1]
        for curve, expected in zip(curves(resumed, 10).values(), curves(run.run_dir, 10).values(), strict=True):
            assert curve == pytest.approx(expected, rel=1e-4)


def write_late(rank: int) -> None:
    """Each checkpoint is written when training has done two more steps, or all of its steps."""
    from scaling.train.checkpoints.checkpoint import Progress
    from scaling.train.checkpoints.store import CheckpointStore

    publish = CheckpointStore._publish

    def waits(self: CheckpointStore, tensors: dict, progress: Progress) -> None:
        deadline = time.monotonic() + 60
        while self._recorder.step < min(progress.step + 2, 30):
            assert time.monotonic() < deadline, "training waits for the checkpoint"
            time.sleep(0.001)
        publish(self, tensors, progress)

    CheckpointStore._publish = waits  # type: ignore[method-assign]


@pytest.mark.parametrize(("zero_stage", "world"), [(0, 2), (1, 1), (1, 2), (2, 2)])
def test_on_the_same_processes_it_goes_on_bit_for_bit(zero_stage: int, world: int, plan_tiny, tmp_path: Path) -> None:
    """With a checkpoint between two logged rows that is written when its weights have changed, and with random depth,
    whose draws must not repeat or skip."""
    options = ("defaults.log_every=4steps", "defaults.keep_checkpoints=9", "defaults.drop_path=0.3")
    # What a model draws depends on how many processes share a batch, so they are part of such a run's plan.
    options = (*options, f"launch.devices_per_run={world}")
    (run,) = plan_tiny(*options, f"defaults.zero_stage={zero_stage}", "defaults.checkpoint_every=5steps")
    assert codes(start_run(run.run_dir, world, write_late)) == [0] * world
    resumed = go_back_to(15, run, tmp_path / "resumed")
    assert codes(start_run(resumed, world)) == [0] * world
    expected = curves(run.run_dir, after=15)
    assert len(expected["loss"]) == 5
    assert curves(resumed, after=15) == expected
