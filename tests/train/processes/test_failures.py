"""What an error of a run means, and that its one line names the way out once."""

import errno
import os
from pathlib import Path

import pytest

from scaling.records.attempts.causes import MORE_MEMORY, Cause, decide
from scaling.records.attempts.ends import End
from scaling.records.events import Event, EventWriter, LostFileError
from scaling.train.processes.failures import classify, describe, is_foreseen

FILES = "ulimit -n"
ROOM = "make room"


@pytest.mark.parametrize(
    ("error", "cause", "way_out"),
    [
        (OSError(errno.EMFILE, os.strerror(errno.EMFILE), "a.tar"), Cause.FAILED, FILES),
        # safetensors and PyTorch, in their own words.
        (RuntimeError("unable to open file <a> in read-only mode: Too many open files (24)"), Cause.FAILED, FILES),
        (Exception("I/O error: No space left on device (os error 28)"), Cause.FAILED, ROOM),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "a"), Cause.FAILED, ROOM),
        (MemoryError(), Cause.OUT_OF_MEMORY, MORE_MEMORY),
        (RuntimeError("std::bad_alloc"), Cause.OUT_OF_MEMORY, MORE_MEMORY),
        (ImportError("libtorch_cpu.so: failed to map segment from shared object"), Cause.OUT_OF_MEMORY, MORE_MEMORY),
    ],
)
def test_the_system_says_no(error: Exception, cause: Cause, way_out: str) -> None:
    assert classify(error) is cause
    assert describe(error).count(way_out) == 1
    assert is_foreseen(error)


@pytest.mark.parametrize("name", ["a\udcff.tar", "a\x1b[31m.tar", "a\n\u202e.tar"])
def test_a_name_that_no_terminal_and_no_record_can_hold_is_told_in_escapes(name: str) -> None:
    for error in (OSError(errno.EMFILE, os.strerror(errno.EMFILE), name), RuntimeError(f"{name} is broken")):
        assert describe(error).isprintable()
        assert describe(error).encode()


def test_a_log_that_is_taken_away_under_a_run_is_one_sentence(tmp_path: Path) -> None:
    counts = {"step": 1, "examples_seen": 16, "unique_examples": 16, "num_devices": 1}
    amounts = {"flops": 1.0, "train_seconds": 1.0, "pause_seconds": 0.0}
    event = Event(run_id="a", attempt=1, kind="step", device="cpu", precision="fp32", **counts, **amounts)
    writer = EventWriter(tmp_path / "events.jsonl")
    (tmp_path / "events.jsonl").rename(tmp_path / "elsewhere")
    (tmp_path / "events.jsonl").write_text("")
    with pytest.raises(LostFileError) as caught:
        writer.write(event)
    assert is_foreseen(caught.value) and classify(caught.value) is Cause.FAILED
    told = describe(caught.value)
    assert told.startswith(str(tmp_path)) and "--retry-failed" in told


def test_a_defect_is_not_taken_for_a_refusal_of_the_system() -> None:
    assert classify(RuntimeError("shapes differ")) is Cause.FAILED
    assert not is_foreseen(RuntimeError("shapes differ"))


@pytest.mark.parametrize("message", [describe(MemoryError()), "killed by signal 9"])
def test_memory_is_asked_for_once_when_a_run_is_given_up(message: str) -> None:
    ends = [
        End(attempt=number, cause=Cause.OUT_OF_MEMORY, code=None, step=0, message=message, seconds=1.0, unix_time=1.0)
        for number in range(1, 5)
    ]
    assert decide(ends, 9).reason.count(MORE_MEMORY) == 1
