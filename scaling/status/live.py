"""What a running run last said: its loss, its last validation, and how long it still has to train."""

import contextlib
import json
from dataclasses import dataclass, replace
from pathlib import Path

from scaling.records.events import Event
from scaling.records.files import open_regular
from scaling.records.reading import is_intact
from scaling.records.run_dir import RunDir
from scaling.records.state import RunState

TAIL_BYTES = 256 * 1024
"""Of the log; the last rows are what is asked for, and a long run's log is long."""


@dataclass(frozen=True, slots=True)
class LastWords:
    """The end of a run's log; None for what it has not said there."""

    loss: float | None = None
    """Training loss of the last row."""
    validation_step: int | None = None
    precision_at_1: float | None = None
    """Of the last upstream validation, a fraction in [0, 1]."""
    pause_share: float = 0.0
    """Seconds without a training step for each second within one, over the whole run."""


def last_words(run_dir: Path) -> LastWords:
    """Read from the log's end; a run without a log has said nothing."""
    loss: float | None = None
    found: LastWords | None = None
    for event in _events_from_the_end(RunDir(run_dir).events):
        if loss is None and event.kind == "step":
            loss = event.metrics.get("loss")
        if found is None and event.kind == "eval" and "upstream/precision_at_1" in event.metrics:
            share = event.pause_seconds / event.train_seconds if event.train_seconds > 0 else 0.0
            found = LastWords(None, event.step, event.metrics["upstream/precision_at_1"], share)
        if found is not None and loss is not None:
            break
    return replace(found or LastWords(), loss=loss)


def seconds_left(state: RunState, steps: int, pause_share: float) -> float | None:
    """Until the last step, at the pace of this attempt; None before it has made a step. Evaluations come on top."""
    made = state.step - state.resumed_step
    if made <= 0 or state.train_seconds <= 0:
        return None
    return (steps - state.step) * state.train_seconds / made * (1 + pause_share)


def _events_from_the_end(path: Path) -> list[Event]:
    """The newest first; rows that cannot be read are passed over."""
    try:
        with open_regular(path) as stream:
            size = stream.seek(0, 2)
            stream.seek(max(0, size - TAIL_BYTES))
            lines = stream.read().splitlines()
    except OSError:
        return []
    events = []
    for line in reversed(lines[1:] if size > TAIL_BYTES else lines):
        if is_intact(line):
            with contextlib.suppress(ValueError, TypeError, KeyError, AttributeError, RecursionError):
                events.append(Event.from_row(json.loads(line)))
    return events
