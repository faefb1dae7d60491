"""`study/jobs/NONCE.json`: what was submitted as one job array, on disk before it was.

Each task of the array reads its run directory from the file, and the end of each job its budget. A launcher that died
between the file and the answer of `sbatch` leaves a batch without a job number; the number is found again by the nonce
in the job's comment. `run_dir/job.json` names the batch that a run was submitted in last, so that a task of an older
one leaves the run alone.
"""

import logging
import time
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from scaling.records.attempts.contract import AS_IT_COMES, Execution
from scaling.records.files import TEMPORARY, json_text
from scaling.records.job_files import read_jobs
from scaling.records.reading import RecordError, read_record, read_sealed, sealed, write_record
from scaling.records.run_dir import RunDir, StudyDir

logger = logging.getLogger(__name__)

BATCH_SCHEMA = 2

SUBMIT_SECONDS = 60.0
"""A batch of which Slurm knows nothing may still be on its way for so long."""


class ArrayJob(BaseModel):
    """One job array."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    batch_schema: int = BATCH_SCHEMA
    nonce: str
    study: str
    runs: tuple[str, ...]
    """Absolute run directories, by the index of their task."""
    retries: int
    """How often a lost process or node is made good for a run; pre-emption and time limits are free."""
    execution: Execution = AS_IT_COMES
    """But for the threads of arithmetic, for which Slurm gives the cores."""
    seconds: float
    """Time limit of one job."""
    save_before: float
    """How long before it a run is asked to save, seconds."""
    hung_after: float | None = None
    """A heartbeat that stands still for so long means that the run hangs, seconds; None never does anything."""
    unix_time: float
    """When it was about to be submitted."""
    job_id: str | None = None
    """Slurm's number of the array; None until sbatch has answered or an adoption has found it."""
    refused: str = ""
    """Slurm's words when it did not take the batch."""

    @property
    def may_be_on_its_way(self) -> bool:
        """Whether sbatch may have been called by a launcher that has not noted the answer yet."""
        return self.job_id is None and not self.refused and time.time() - self.unix_time < SUBMIT_SECONDS

    def save(self, study_dir: Path) -> Path:
        path = StudyDir(study_dir).job(self.nonce)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_record(path, self)
        return path

    @classmethod
    def load(cls, path: Path) -> "ArrayJob":
        """RecordError when it is damaged."""
        return read_record(path, cls, schema_key="batch_schema", schema=BATCH_SCHEMA)


def load_batches(study_dir: Path) -> list[ArrayJob]:
    """All batches of a study, oldest first; one that is damaged is told and left out."""
    batches = read_jobs(study_dir, ArrayJob, schema_key="batch_schema", schema=BATCH_SCHEMA)
    return sorted(batches, key=lambda batch: batch.unix_time)


def mark_runs(batch: ArrayJob) -> None:
    """Let every run of the batch name it as the one that it belongs to now.

    Renamed into place but not flushed to the disk, which would take seconds for a thousand runs: after a power cut a
    run without the file belongs to whoever starts it.
    """
    for index, run_dir in enumerate(batch.runs):
        path = RunDir(Path(run_dir)).job
        temporary = path.with_name(f".{path.name}.{batch.nonce}{TEMPORARY}")
        temporary.write_text(json_text(sealed({"nonce": batch.nonce, "index": index})), encoding="utf-8")
        temporary.replace(path)


def batch_of(run_dir: Path) -> tuple[str, int] | None:
    """Nonce and index that a run was submitted under last; None when it never was and, with a warning, when the file is
    damaged: then it belongs to whoever starts it, and its lease alone keeps others out."""
    path = RunDir(run_dir).job
    try:
        value = read_sealed(path)
        return str(value["nonce"]), int(value["index"])
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, KeyError, TypeError) as error:
        problem = error if isinstance(error, RecordError) else f"{path} names no batch"
        logger.warning("%s; the run belongs to whoever starts it", problem)
        return None


def newest_batches(batches: Sequence[ArrayJob]) -> dict[Path, tuple[ArrayJob, int]]:
    """The batch that each run was submitted in last, with its index there."""
    return {Path(run): (batch, index) for batch in batches for index, run in enumerate(batch.runs)}
