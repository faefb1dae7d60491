"""`ends.jsonl`: how each attempt at a run ended, append-only; the only source of retry budgets.

The first process writes the line of an attempt that ends in order. When processes die without recording their end, the
backend that started them writes the line (`settle_end`), once it knows that no process of the run is left. A later line
about the same attempt replaces an earlier one: a scheduler may know better than the process (its time limit, a dead
node).
"""

import json
import logging
import math
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Self

from scaling.records.attempts.attempt import Attempt, latest_attempt
from scaling.records.attempts.causes import Cause, cause_of_exit
from scaling.records.attempts.rank_failures import read_failures, together
from scaling.records.files import append_line, open_regular
from scaling.records.reading import is_intact, seal_line
from scaling.records.run_dir import RunDir
from scaling.records.state import RunState

logger = logging.getLogger(__name__)

FORGIVEN = "forgiven"
"""`cause` of a line that is no end: a person asked for the run again, and its budget begins anew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """The end of one attempt."""

    attempt: int
    """0 for a process that ended before it had claimed a number."""
    cause: Cause
    code: int | None = None
    """Exit code; negative for a signal, None where nobody knows."""
    step: int = 0
    """Optimiser steps done when it ended."""
    host: str = ""
    job: str = ""
    """The scheduler's name for it."""
    message: str = ""
    """The error, or the reason for leaving."""
    seconds: float = 0.0
    """Wall time of the attempt."""
    train_seconds: float = 0.0
    """Of it, inside training steps."""
    energy_joules: float | None = None
    """That its GPUs drew from its start to the end of its training, as their drivers count it (NVML); None where nobody
    knows, as on CPUs and GPUs shared with others."""
    unix_time: float = 0.0

    def to_line(self) -> bytes:
        return seal_line(asdict(self))

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Self:
        """Inverse of `to_line` on the parsed object. ValueError, TypeError or KeyError for a row that no run wrote."""
        known = {field.name: row[field.name] for field in fields(cls) if field.name in row}
        end = cls(**{**known, "cause": Cause(row["cause"])})
        if not all(type(count) is int and 0 <= count < 2**63 for count in (end.attempt, end.step)):
            raise ValueError("a count is no natural number")
        amounts = (end.seconds, end.train_seconds, end.unix_time, end.energy_joules or 0.0)
        if not all(type(amount) in (int, float) and 0 <= amount < math.inf for amount in amounts):
            raise ValueError("an amount is not positive and finite")
        if not all(isinstance(text, str) for text in (end.host, end.job, end.message)):
            raise ValueError("a text is none")
        if end.code is not None and type(end.code) is not int:
            raise ValueError("a code is no number")
        return end


@dataclass(frozen=True, slots=True)
class Ends:
    """The ends of a run's attempts, oldest first, each attempt once."""

    all: tuple[End, ...]
    counted: tuple[End, ...]
    """Those since a person last asked for the run again: what `decide` takes."""
    is_forgiven: bool = False
    """Whether the last thing written is that a person asked for the run again."""
    num_damaged: int = 0
    """Lines that cannot be read."""

    @property
    def last(self) -> End | None:
        return self.counted[-1] if self.counted else None


def read_ends(run_dir: Path) -> Ends:
    """All that is known; a missing file is no end yet, damaged lines are left out and counted, and a file that cannot
    be read is reported and counts as one damaged line."""
    path = RunDir(run_dir).ends
    lines, num_damaged = [], 0
    try:
        with open_regular(path) as stream:
            lines = stream.read().splitlines()
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:
        logger.warning("%s cannot be read (%s); how its attempts ended is not known", path, error.strerror)
        num_damaged = 1
    every: dict[object, End] = {}
    counted: dict[object, End] = {}
    is_forgiven = False
    for number, line in enumerate(lines):
        if not line.strip():
            continue
        try:
            if not is_intact(line):
                raise ValueError("damaged")
            row = json.loads(line)
            if row["cause"] == FORGIVEN:
                counted, is_forgiven = {}, True
                continue
            end = End.from_row(row)
        except (ValueError, TypeError, KeyError, RecursionError):
            num_damaged += 1
            continue
        is_forgiven = False
        for ends in (every, counted):
            # An attempt has one end, the last that was written; a process without an attempt has its own.
            key = end.attempt or f"line {number}"
            ends.pop(key, None)
            ends[key] = end
    return Ends(tuple(every.values()), tuple(counted.values()), is_forgiven, num_damaged)


def spent_energy(ends: Ends, num_attempts: int) -> float | None:
    """Joules of all attempts that trained, lost work too; None unless every one of the `num_attempts` is known."""
    known = {end.attempt: end for end in ends.all if end.attempt}
    if ends.num_damaged or not all(number in known for number in range(1, num_attempts + 1)):
        return None
    parts = [end.energy_joules for end in known.values() if end.train_seconds > 0]
    return None if not parts or None in parts else sum(part for part in parts if part is not None)


def append_end(run_dir: Path, end: End) -> None:
    """Add one line; on the disk when this returns."""
    append_line(RunDir(run_dir).ends, end.to_line())


def forgive(run_dir: Path) -> None:
    """What ended so far counts no more: for a person who asks for a failed or cancelled run again."""
    if not read_ends(run_dir).is_forgiven:
        append_line(RunDir(run_dir).ends, seal_line({"cause": FORGIVEN, "unix_time": time.time()}))


def settle_end(
    run_dir: Path,
    code: int | None,
    *,
    begun_after: int | None = None,
    cause: Cause | None = None,
    job: str = "",
    message: str = "",
) -> End:
    """The end of the attempt whose processes are all gone, written unless the run has recorded it itself.

    `code` is the exit code that tells most (None: nobody knows); `cause` is what the backend knows beyond it (a time
    limit, a dead node) and outweighs what the run said. A process that died before it had claimed an attempt is known
    by `begun_after`, which is `attempts.latest_number` from before its start, or by `job`, the scheduler's name for it,
    which the attempts that it claimed bear. Nothing is written about a process that was BUSY, for the run is another's
    then, or about one that found the run done.
    """
    told = cause or cause_of_exit(code)
    if told is Cause.BUSY:
        return End(attempt=0, cause=told, code=code, job=job, message=message)
    attempt = latest_attempt(run_dir)
    if attempt is not None and (attempt.attempt <= (begun_after or 0) or not _is_of(job, attempt)):
        attempt = None
    if attempt is None and told is Cause.DONE:
        return End(attempt=0, cause=told, code=code, job=job, message=message)
    own = None
    if attempt is not None:
        own = next((end for end in read_ends(run_dir).all if end.attempt == attempt.attempt), None)
    if own is not None and cause in (None, own.cause):
        return own
    # The first process claims its number before the others can fail: without one, what they said is of another start.
    words = read_failures(run_dir) if own is None and attempt is not None else []
    if words and cause is None:
        told, said = together(words)
        message = message or said
    state = RunState.load(run_dir)
    end = own or End(attempt=0, cause=told, host=os.uname().nodename)
    if own is None and attempt is not None:
        is_its = state.attempt == attempt.attempt
        lived = max(0.0, state.heartbeat_unix_time - attempt.unix_time) if is_its else 0.0
        end = End(
            attempt=attempt.attempt,
            cause=told,
            step=state.step if is_its else 0,
            host=attempt.host,
            job=attempt.job,
            seconds=lived,
            train_seconds=state.train_seconds if is_its else 0.0,
            energy_joules=state.energy_joules if is_its else None,
        )
    end = replace(
        end,
        cause=told,
        code=code,
        job=job or end.job,
        message=message or end.message or _death(code),
        unix_time=time.time(),
    )
    append_end(run_dir, end)
    return end


def _is_of(job: str, attempt: Attempt) -> bool:
    """Whether an attempt may have been made by `job`, which names all restarts of a job or one of them."""
    return not job or attempt.job in ("", job) or attempt.job.partition("/")[0] == job


def _death(code: int | None) -> str:
    """What there is to say about a process that said nothing."""
    if code is None:
        return "its processes are gone"
    if code < 0 or code > 128:
        return f"killed by signal {-code if code < 0 else code - 128}"
    return f"exit code {code}"
