"""`state.json`: the latest word of a run about itself, with a heartbeat while it lives.

It is made for people and progress displays and holds nothing that is not also elsewhere: a damaged one is made again
from the ends of the run's attempts. Where a run stands is decided by `standing`, which asks result and lease first.
"""

import errno
import logging
import os
import time
from enum import StrEnum
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field

from scaling.records.files import write_text_atomic
from scaling.records.reading import RecordError, read_sealed, sealed_text, validate
from scaling.records.run_dir import RunDir

logger = logging.getLogger(__name__)


class Status(StrEnum):
    """Where a run can stand; stated once for launcher, status and analysis."""

    PENDING = "pending"
    """Never started."""
    QUEUED = "queued"
    """Handed to a scheduler that has not started it yet."""
    RUNNING = "running"
    PREEMPTED = "preempted"
    """Ended on the way (asked to leave, killed, lost a machine); it continues from its last checkpoint."""
    CANCELLED = "cancelled"
    """Stopped by a person."""
    PRUNED = "pruned"
    """Stopped by a search."""
    FAILED = "failed"
    """Ended with an error, or so often lost that its retries are used up."""
    DONE = "done"


class RunState(BaseModel):
    """What a run last said about itself."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    status: Status = Status.PENDING
    attempt: int = Field(0, ge=0)
    step: int = Field(0, ge=0)
    resumed_step: int = Field(0, ge=0)
    """Step from which the attempt continued: `step - resumed_step` were made in it."""
    train_seconds: float = Field(0.0, ge=0)
    """Inside training steps, in this attempt."""
    energy_joules: float | None = Field(None, ge=0)
    """That the GPUs of this attempt drew in training so far; None where nobody knows."""
    scoring: str = ""
    """Name of the evaluation that is being computed."""
    host: str = ""
    pid: int = 0
    job: str = ""
    """The scheduler's name for the process: a Slurm job id, a Ray trial; empty on this machine."""
    heartbeat_unix_time: float = 0.0
    error: str = ""

    def save(self, run_dir: Path) -> None:
        """Durable when this returns. On a full disk it is written over the old one, which has its block already: a
        state that may be torn tells more than one that still says `running`."""
        path = RunDir(run_dir).state
        try:
            write_text_atomic(path, self.to_text())
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT) or not path.exists():
                raise
            with path.open("r+", encoding="utf-8") as stream:
                stream.write(self.to_text())
                stream.truncate()
                stream.flush()
                os.fsync(stream.fileno())

    def to_text(self) -> str:
        """As it is saved."""
        return sealed_text(self)

    @classmethod
    def load(cls, run_dir: Path) -> Self:
        """The saved state; `pending` when the run never reported; made from the attempts' ends, with a warning, when
        the file is damaged."""
        path = RunDir(run_dir).state
        try:
            return validate(path, cls, read_sealed(path))
        except (FileNotFoundError, NotADirectoryError):
            return cls()
        except RecordError as error:
            logger.warning("%s; read from %s instead", error, RunDir(run_dir).ends.name)
            return cls._from_ends(run_dir)

    @classmethod
    def _from_ends(cls, run_dir: Path) -> Self:
        from scaling.records.attempts.attempt import latest_number
        from scaling.records.attempts.ends import read_ends
        from scaling.records.standing import STATUS_AFTER

        end, attempt = read_ends(run_dir).last, latest_number(run_dir)
        if end is None:
            return cls(status=Status.PREEMPTED if attempt else Status.PENDING, attempt=attempt)
        status = STATUS_AFTER[end.cause] if end.attempt in (0, attempt) else Status.PREEMPTED
        return cls(status=status, attempt=attempt, step=end.step, host=end.host, job=end.job, error=end.message)

    def heartbeat_age_seconds(self) -> float:
        return max(0.0, time.time() - self.heartbeat_unix_time)
