"""`events.jsonl`: what happened in a run, one JSON object a line, append-only, written by rank 0.

Nothing in the file is ever rewritten. A run that was killed and resumed holds rows of several attempts;
those of an older attempt past the step from which a newer one resumed describe work that was lost, and the
reader leaves them out. A half-written or damaged line is skipped and counted, never fatal and never another number.

At one step an evaluation is logged before the checkpoint that remembers it, so that a row at the resumed
step is always one whose effect the checkpoint holds. The row of a checkpoint follows once it is on the disk, maybe
behind rows of later steps, with the counters of its own.
"""

import json
import logging
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Literal, Self, get_args

from scaling.records.files import ends_inside_a_line, open_regular, open_to_append
from scaling.records.reading import is_intact, seal_line

logger = logging.getLogger(__name__)

SCHEMA = 2

MAX_LINE_BYTES = 2**20
"""No row is anywhere near as long; a longer line is read in pieces, each of which counts as torn."""

Kind = Literal["start", "step", "eval", "checkpoint", "preempt", "done", "failed"]

KINDS: tuple[str, ...] = get_args(Kind)


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One row of the log. Counters are cumulative over attempts: the value at `step` of one unbroken run."""

    run_id: str
    attempt: int
    """1 for the first start, one more after every crash, pre-emption or kill."""
    kind: Kind
    step: int
    """Optimiser steps done. In a `start` row: the step the attempt resumes from."""
    examples_seen: int
    """Training examples consumed, repetitions counted: the compute axis."""
    unique_examples: int
    """Distinct training examples consumed: the data axis."""
    flops: float
    """Training floating-point operations so far (forward and backward, from the counted model)."""
    train_seconds: float
    """Wall time inside training steps."""
    pause_seconds: float
    """Wall time in which a step was not running: waiting for data, evaluating, saving."""
    device: str
    num_devices: int
    precision: str
    metrics: dict[str, float] = field(default_factory=dict)
    """Named `<eval>/<metric>` for evaluations (`upstream/loss`), plain names for training (`loss`)."""
    message: str = ""
    """Human words: the error of a `failed` row, the reason of a `preempt` row."""
    unix_time: float = 0.0
    schema: int = SCHEMA

    def to_line(self) -> bytes:
        """JSON that ends with its own CRC-32 and a line break; NaN and infinities become null and read back as NaN."""
        row = {name: getattr(self, name) for name in self.__slots__}
        row["metrics"] = {name: value if math.isfinite(value) else None for name, value in self.metrics.items()}
        return seal_line(row)

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Self:
        """Inverse of `to_line` on the parsed object; unknown fields of a later schema are ignored. ValueError or
        TypeError for a row that no run wrote."""
        known = {name: row[name] for name in cls.__slots__ if name in row}
        known["metrics"] = {k: math.nan if v is None else v for k, v in row.get("metrics", {}).items()}
        event = cls(**known)
        counts = (event.attempt, event.step, event.examples_seen, event.unique_examples)
        amounts = (event.flops, event.train_seconds, event.pause_seconds)
        if event.kind not in KINDS or not isinstance(event.run_id, str):
            raise ValueError("no event")
        if not all(type(count) is int and 0 <= count < 2**63 for count in counts):
            raise ValueError("a count is no natural number")
        if not all(type(amount) in (int, float) and 0 <= amount < math.inf for amount in amounts):
            raise ValueError("an amount is not positive and finite")
        if any(type(value) not in (int, float) or math.isinf(value) for value in event.metrics.values()):
            raise ValueError("a metric is no number")
        return event


class LostFileError(FileNotFoundError):
    """A file that a run writes was taken away or replaced while it did; one sentence."""


class EventWriter:
    """Appends events to a file. Rows other than `step` are on the disk when `write` returns."""

    def __init__(self, path: Path) -> None:
        self._path = path
        torn = ends_inside_a_line(path)
        self._stream: BinaryIO = open_to_append(path)
        if torn:
            self._stream.write(b"\n")

    def write(self, event: Event) -> None:
        """LostFileError when the file was deleted or replaced since it was opened: the row would be lost."""
        if not self._is_in_place():
            raise LostFileError(
                f"{self._path} was deleted or replaced under the running run; start it again from its last checkpoint "
                "(--retry-failed)"
            )
        self._stream.write(event.to_line())
        self._stream.flush()
        if event.kind != "step":
            os.fsync(self._stream.fileno())

    def _is_in_place(self) -> bool:
        try:
            return os.path.samestat(self._path.stat(), os.fstat(self._stream.fileno()))
        except FileNotFoundError:
            return False

    def close(self) -> None:
        self._stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


@dataclass(frozen=True, slots=True)
class EventLog:
    """A run's events with lost work left out, in the order written, and what was left out."""

    events: tuple[Event, ...]
    num_superseded: int
    num_torn: int


def read_events(path: Path) -> EventLog:
    """Read and resolve one `events.jsonl`; a missing file is an empty log, and one that cannot be read is reported and
    counts as one torn line."""
    events: list[Event] = []
    num_torn = 0
    try:
        with open_regular(path) as stream:
            for line in iter(lambda: stream.readline(MAX_LINE_BYTES), b""):
                if not line.strip():
                    continue
                try:
                    if not is_intact(line):
                        raise ValueError("damaged")
                    events.append(Event.from_row(json.loads(line)))
                except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
                    num_torn += 1
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:
        logger.warning("%s cannot be read (%s); its log is left out", path, error.strerror)
        num_torn += 1
    kept = resolve(events)
    return EventLog(kept, num_superseded=len(events) - len(kept), num_torn=num_torn)


def resolve(events: Iterable[Event]) -> tuple[Event, ...]:
    """Leave out rows of an older attempt past the step from which a newer attempt resumed."""
    rows = list(events)
    resumed_at: dict[int, int] = {}
    for row in rows:
        if row.kind == "start":
            resumed_at[row.attempt] = min(row.step, resumed_at.get(row.attempt, row.step))
    valid_until: dict[int, float] = {}
    horizon = math.inf
    for attempt in sorted({row.attempt for row in rows}, reverse=True):
        valid_until[attempt] = horizon
        horizon = min(horizon, resumed_at.get(attempt, math.inf))
    return tuple(row for row in rows if row.step <= valid_until[row.attempt])
