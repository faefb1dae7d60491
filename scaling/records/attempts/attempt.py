"""`attempts/N.json`: who makes attempt number N at a run, and with what.

Creating the file claims the number: two processes never have the same one, whatever their lease was worth. The process
that trains writes it, so that it names the code and packages that made the numbers, not those of the planner.
"""

import logging
import os
import time
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from scaling.records.attempts.provenance import describe_harness_source, describe_packages
from scaling.records.files import create_exclusively
from scaling.records.reading import RecordError, read_record, sealed_text, write_record
from scaling.records.run_dir import RunDir

logger = logging.getLogger(__name__)

ATTEMPT_SCHEMA = 1


class Attempt(BaseModel):
    """One start of a run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    attempt_schema: int = ATTEMPT_SCHEMA
    attempt: int
    """1 for the first start."""
    host: str
    pid: int
    job: str = ""
    unix_time: float
    """When it began."""
    version: str = ""
    git_commit: str = ""
    """Of the code that trains; empty when it does not run from a git checkout."""
    git_dirty: bool = False
    packages: dict[str, str] = {}
    device: str = ""
    """As its driver reports it; empty until the processes have met."""
    num_devices: int = 0
    threads: int = 0
    """Of the CPU arithmetic of one process; they change the order of sums and so the last digits."""
    division: dict[str, int | bool] = {}
    """How a batch is cut and computed, such as `micro_batch`; empty before training begins."""
    changes: tuple[str, ...] = ()
    """What its numbers were computed with that the training it continues or repeats was not (`changes`)."""
    hardware: dict[str, Any] = {}

    def save(self, run_dir: Path) -> None:
        write_record(RunDir(run_dir).attempt(self.attempt), self)


def claim_attempt(run_dir: Path, job: str = "") -> Attempt:
    """The next attempt number, made ours on the disk."""
    run = RunDir(run_dir)
    run.attempts.mkdir(exist_ok=True)
    number = max(_numbers(run), default=0) + 1
    source = describe_harness_source()
    while True:
        attempt = Attempt(
            attempt=number,
            host=os.uname().nodename,
            pid=os.getpid(),
            job=job,
            unix_time=time.time(),
            version=source.version,
            git_commit=source.git_commit,
            git_dirty=source.git_dirty,
            packages=describe_packages(),
        )
        if create_exclusively(run.attempt(number), sealed_text(attempt)):
            return attempt
        number += 1


def latest_number(run_dir: Path) -> int:
    """The highest number claimed; 0 before the first start."""
    return max(_numbers(RunDir(run_dir)), default=0)


def latest_attempt(run_dir: Path) -> Attempt | None:
    """The attempt begun last; None before the first start. A damaged record leaves the number and nothing else."""
    number = latest_number(run_dir)
    if not number:
        return None
    try:
        return load_attempt(run_dir, number)
    except RecordError:
        return Attempt(attempt=number, host="", pid=0, unix_time=0.0)


def load_attempt(run_dir: Path, number: int) -> Attempt:
    """RecordError when it is damaged."""
    return read_record(RunDir(run_dir).attempt(number), Attempt, schema_key="attempt_schema", schema=ATTEMPT_SCHEMA)


def _numbers(run: RunDir) -> list[int]:
    try:
        names = [path.stem for path in run.attempts.iterdir() if path.suffix == ".json"]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        logger.warning("%s cannot be read (%s); it counts as empty", run.attempts, error.strerror)
        return []
    return [int(name) for name in names if name.isascii() and name.isdecimal() and len(name) < 9]
