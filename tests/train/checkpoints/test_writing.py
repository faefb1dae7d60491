"""Checkpoints are written beside training: what a kill, a failure and a request to leave in the middle cost."""

import os
import signal
import time
from functools import partial

import pytest
import torch

from scaling.records.attempts.contract import FAILED, PREEMPTED
from scaling.records.events import read_events
from scaling.records.state import RunState
from scaling.train.checkpoints.host_copy import HostCopy
from scaling.train.checkpoints.writer import BackgroundWriter
from tests.support.ranks import codes, leave_at, start_run
from tests.support.run_folders import steps_saved, wait_for_checkpoint

OPTIONS = ("protocol.steps=200", "defaults.checkpoint_every=5steps", "defaults.keep_checkpoints=3")


def die_while_writing(rank: int, step: int) -> None:
    """The process is killed when the state of `step` is written, not yet marked, and training has gone on until it told
    of the checkpoint before."""
    from scaling.train.checkpoints import store

    def dies(path):
        if path.parent.name.startswith(f".step_{step:08d}"):
            wait_for_checkpoint(path.parents[2], step - 5)
            os.kill(os.getpid(), signal.SIGKILL)
        return sha256(path)

    sha256, store.file_sha256 = store.file_sha256, dies


def fail_while_writing(rank: int, step: int) -> None:
    """What the thread meets is no refusal of the disk."""
    from scaling.train.checkpoints.store import CheckpointStore

    publish = CheckpointStore._publish

    def fails(self, tensors, progress):
        if progress.step == step:
            raise ValueError("a tensor of no known type")
        publish(self, tensors, progress)

    CheckpointStore._publish = fails  # type: ignore[method-assign]


def leave_from_a_slow_disk(rank: int, step: int) -> None:
    from scaling.train.checkpoints.store import CheckpointStore

    publish = CheckpointStore._publish

    def slowly(self, tensors, progress):
        time.sleep(1)
        publish(self, tensors, progress)

    CheckpointStore._publish = slowly  # type: ignore[method-assign]
    leave_at(rank, step)


def test_the_middle_of_writing_costs_one_checkpoint_at_most(plan_tiny) -> None:
    (run,) = plan_tiny(*OPTIONS)
    assert codes(start_run(run.run_dir, 1, partial(die_while_writing, step=10))) == [-signal.SIGKILL]
    assert steps_saved(run.run_dir) == [5]
    assert list((run.run_dir / "checkpoints").glob(".*.partial"))
    assert codes(start_run(run.run_dir, 1, partial(fail_while_writing, step=20))) == [FAILED]
    assert "a tensor of no known type" in RunState.load(run.run_dir).error
    assert steps_saved(run.run_dir) == [5, 10, 15]
    assert not list((run.run_dir / "checkpoints").glob(".*"))
    assert codes(start_run(run.run_dir, 1, partial(leave_from_a_slow_disk, step=17))) == [PREEMPTED]
    assert steps_saved(run.run_dir) == [10, 15, 17]
    rows = read_events(run.run_dir / "events.jsonl").events
    assert [row.step for row in rows if row.kind == "start"] == [0, 5, 15]
    assert [row.step for row in rows if row.kind == "checkpoint"] == [5, 10, 15, 17]


def test_work_is_done_in_order_and_not_after_a_failure() -> None:
    writer: BackgroundWriter[int] = BackgroundWriter()
    done = []
    for number in range(5):
        writer.submit(lambda number=number: done.append(number) or 6 // (3 - number))  # type: ignore[misc]
    told = []
    with pytest.raises(ZeroDivisionError):
        told += [told.append(outcome) or outcome for outcome in writer.outcomes(to_the_end=True)]  # type: ignore[func-returns-value]
    writer.close()
    assert (done, told) == ([0, 1, 2, 3], [2, 3, 6])


def test_a_copy_stays_what_it_was_in_memory_that_is_used_again() -> None:
    copy = HostCopy(torch.device("cpu"))
    weights = torch.randn(4, 3, 2, 2).to(memory_format=torch.channels_last)
    first = copy.take([("a", weights), ("step", torch.tensor(7.0))])
    kept = {name: tensor.clone() for name, tensor in first.items()}
    assert first["a"].is_contiguous() and torch.equal(first["a"], weights)
    weights += 1
    assert all(torch.equal(first[name], kept[name]) for name in first)
    again = copy.take([("a", weights)])
    assert torch.equal(again["a"], weights) and again["a"].data_ptr() == first["a"].data_ptr()
