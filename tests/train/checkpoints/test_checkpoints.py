"""Which checkpoint a run resumes from: chosen by the first process alone, never a damaged one, never pruned away."""

from functools import partial
from pathlib import Path

import pytest

from scaling.records.attempts.contract import DONE, MACHINE_TROUBLE, PREEMPTED
from scaling.records.attempts.ends import read_ends
from scaling.records.result import RunResult
from tests.support.ranks import codes, leave_at, start_run
from tests.support.run_folders import checkpoints, starts, steps_saved

OPTIONS = ("protocol.steps=30", "defaults.checkpoint_every=5steps", "defaults.keep_checkpoints=2")


def damage(checkpoint: Path) -> None:
    """Flip one byte in the middle of the largest file."""
    path = max(checkpoint.iterdir(), key=lambda file: file.stat().st_size)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


def see_no_checkpoints(rank: int) -> None:
    """As on a shared file system that has yet to show the folder to this process: looking is the fault."""
    from scaling.train.checkpoints.store import CheckpointStore

    if rank:

        def look(self: CheckpointStore) -> None:
            raise AssertionError("a process other than the first looked for a checkpoint")

        CheckpointStore._newest_sound = look  # type: ignore[assignment, method-assign]
        CheckpointStore._complete = look  # type: ignore[assignment, method-assign]


def test_all_processes_restore_what_the_first_one_sees(plan_tiny) -> None:
    (run,), (unbroken,) = plan_tiny(*OPTIONS, name="broken"), plan_tiny(*OPTIONS, name="unbroken")
    assert codes(start_run(run.run_dir, 2, partial(leave_at, step=12))) == [PREEMPTED] * 2
    assert codes(start_run(run.run_dir, 2, see_no_checkpoints)) == [DONE] * 2
    assert starts(run.run_dir) == [0, 13]  # Asked at the edge of step 12, they agree during the next one.
    assert codes(start_run(unbroken.run_dir, 2)) == [DONE] * 2
    results = [RunResult.load(one.run_dir) for one in (run, unbroken)]
    assert results[0] is not None and results[1] is not None
    for name in ("loss", "upstream/loss", "upstream/precision_at_1"):
        assert results[0].metrics[name] == results[1].metrics[name]


def test_a_refusal_of_the_first_process_stops_all(plan_tiny) -> None:
    """A checkpoint of another run is no damaged one: nobody begins from step 0 over it."""
    (run,) = plan_tiny(*OPTIONS, name="one")
    (other,) = plan_tiny(*OPTIONS, "grid.seed=[1]", name="two")
    assert codes(start_run(run.run_dir, 1, partial(leave_at, step=7))) == [PREEMPTED]
    run.run_dir.joinpath("checkpoints").rename(other.run_dir / "checkpoints")
    assert codes(start_run(other.run_dir, 2)) == [2, 2]
    assert steps_saved(other.run_dir)[-1] == 7


@pytest.mark.parametrize("num_damaged", [1, 2])
def test_damaged_checkpoints_are_set_aside_and_the_sound_one_is_kept(num_damaged: int, plan_tiny) -> None:
    (run,) = plan_tiny(*OPTIONS)
    assert codes(start_run(run.run_dir, 1, partial(leave_at, step=12))) == [PREEMPTED]
    assert steps_saved(run.run_dir) == [10, 12]
    for checkpoint in checkpoints(run.run_dir)[-num_damaged:]:
        damage(checkpoint)
    resumed = 10 if num_damaged == 1 else 0
    assert codes(start_run(run.run_dir, 1, partial(leave_at, step=resumed + 1))) == [PREEMPTED]
    assert starts(run.run_dir) == [0, resumed]
    assert len(list((run.run_dir / "checkpoints").glob("*.damaged"))) == num_damaged
    assert steps_saved(run.run_dir)[-1] == resumed + 1
    assert codes(start_run(run.run_dir, 1, partial(leave_at, step=resumed + 2))) == [PREEMPTED]
    assert starts(run.run_dir)[-1] == resumed + 1


def change_the_kept_weights(rank: int, step: int) -> None:
    """One byte of the best weights turns on the disk, before a checkpoint or, after the last one, before the result."""
    from scaling.train.checkpoints.store import CheckpointStore
    from scaling.train.scoring import Scoring

    save, conclude = CheckpointStore.save, Scoring.conclude

    def saves(self, engine, progress):
        if progress.step == step:
            self._writer.wait()
            damage(self.best_path.parent)
        save(self, engine, progress)

    def concludes(self, model, progress, check_best):
        if step > progress.step:
            damage(self._best_path.parent)
        return conclude(self, model, progress, check_best)

    CheckpointStore.save, Scoring.conclude = saves, concludes  # type: ignore[method-assign]


@pytest.mark.parametrize("step", [15, 31])
def test_kept_weights_that_change_on_the_disk_are_no_result(step: int, plan_tiny) -> None:
    (run,), (sound,) = plan_tiny(*OPTIONS), plan_tiny(*OPTIONS, name="sound")
    assert codes(start_run(sound.run_dir, 1)) == [DONE]
    assert codes(start_run(run.run_dir, 1, partial(change_the_kept_weights, step=step))) == [MACHINE_TROUBLE]
    assert RunResult.load(run.run_dir) is None
    assert "is not what was written" in read_ends(run.run_dir).all[-1].message
    assert codes(start_run(run.run_dir, 1)) == [DONE]
    results = [RunResult.load(one.run_dir) for one in (run, sound)]
    assert results[0] and results[1] and results[0].weights_sha256 == results[1].weights_sha256


def test_stray_copies_are_no_checkpoints(plan_tiny) -> None:
    (run,) = plan_tiny(*OPTIONS)
    assert codes(start_run(run.run_dir, 1, partial(leave_at, step=6))) == [PREEMPTED]
    folder = run.run_dir / "checkpoints"
    (folder / "step_00000006.bak").mkdir()
    (folder / "notes").mkdir()
    assert codes(start_run(run.run_dir, 1)) == [DONE]
    assert starts(run.run_dir) == [0, 6]
