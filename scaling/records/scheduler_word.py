"""`scheduler.json`: what a cluster's scheduler last said of a study's runs, and when it said so.

Written by a launcher with each of its queries and by a job as it ends, so that `scaling.status` can tell why a run
waits without asking anybody: after the launcher has left, on a machine without the scheduler's commands, when the
record of the job is gone. It is made for people and nothing is decided by it. It is not flushed to the disk: the next
query makes it again.
"""

import logging
import os
import time
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from scaling.records.files import TEMPORARY
from scaling.records.reading import RecordError, read_record, sealed_text
from scaling.records.run_dir import StudyDir

logger = logging.getLogger(__name__)

WORD_SCHEMA = 1

SaidPhase = Literal["queued", "running", "unknown", "gone"]
"""As `Look.phase` of the back ends; of a run that ended its own records tell."""


class RunWord(BaseModel):
    """What was said of one run."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    phase: SaidPhase
    reason: str = ""
    """Why it waits or what is wrong, with the expected start where there is one."""
    where: str = ""
    """Nodes and job: `n1 17_0`."""
    unix_time: float
    """When it was said, by the clock of who asked."""

    def age_seconds(self) -> float:
        return max(0.0, time.time() - self.unix_time)


class SchedulerWord(BaseModel):
    """The last word of one scheduler on the runs of one study."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    word_schema: int = WORD_SCHEMA
    scheduler: str
    """As people call it: `Slurm`."""
    runs: dict[str, RunWord] = Field({}, description="By run id.")
    silent_since: float | None = None
    """When it was first asked in vain since it last answered."""
    silence: str = ""
    """What it said then."""

    def save(self, study_dir: Path) -> None:
        """Replace the last one; with a warning where the disk refuses, since nothing depends on it."""
        path = StudyDir(study_dir).scheduler
        temporary = path.with_name(f".{path.name}.{os.uname().nodename}.{os.getpid()}{TEMPORARY}")
        try:
            temporary.write_text(sealed_text(self), encoding="utf-8")
            temporary.replace(path)
        except OSError as error:
            logger.warning("%s cannot be written (%s); status will tell older words", path, error.strerror)

    @classmethod
    def load(cls, study_dir: Path) -> Self | None:
        """None where no scheduler was ever asked and, with a warning, when the file is damaged."""
        path = StudyDir(study_dir).scheduler
        try:
            return read_record(path, cls, schema_key="word_schema", schema=WORD_SCHEMA)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except RecordError as error:
            logger.warning("%s; what the scheduler said last is left out", error)
            return None
