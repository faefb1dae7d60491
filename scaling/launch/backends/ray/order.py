"""`study/jobs/NONCE.json`: what was submitted to Ray at once, on disk before it was.

The study's queue, an actor of the cluster, reads its runs from these files, also after Ray has started it again on
another node, and removes a file when all of its runs have ended.
"""

from collections.abc import Sequence
from pathlib import Path

from scaling.launch.backends.ray.shape import Shape
from scaling.records.attempts.attempt import latest_number
from scaling.records.attempts.contract import Execution
from scaling.records.job_files import read_jobs
from scaling.records.reading import write_record
from scaling.records.run_dir import StudyDir
from scaling.records.run_plan import Frozen

RAY_SCHEMA = 2


class Order(Frozen):
    """One run as its supervisor is given it."""

    run_dir: str
    attempts_before: int
    """Highest attempt number when it was submitted: what ended before that is not this order's to judge."""
    retries: int
    """How often a lost process or node is made good; pre-emption is free."""
    execution: Execution
    """But for the threads of arithmetic, which `shape` has."""
    shape: Shape
    is_embedded: bool
    """Whether the cluster is the launcher's own, on its machine."""


class Batch(Frozen):
    """Runs that were submitted together."""

    ray_schema: int = RAY_SCHEMA
    nonce: str
    orders: tuple[Order, ...]
    cap: int | None
    """Runs of the study at a time; that of the newest batch counts."""
    unix_time: float
    """When it was about to be submitted."""

    @classmethod
    def of(
        cls,
        run_dirs: Sequence[Path],
        *,
        nonce: str,
        shape: Shape,
        retries: int,
        execution: Execution,
        is_embedded: bool,
        cap: int | None,
        unix_time: float,
    ) -> "Batch":
        """Absolute run directories, in the order in which they shall start."""
        orders = tuple(
            Order(
                run_dir=str(run_dir),
                attempts_before=latest_number(run_dir),
                retries=retries,
                execution=execution,
                shape=shape,
                is_embedded=is_embedded,
            )
            for run_dir in run_dirs
        )
        return cls(nonce=nonce, orders=orders, cap=cap, unix_time=unix_time)

    def save(self, study_dir: Path) -> Path:
        path = StudyDir(study_dir).job(self.nonce)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_record(path, self)
        return path


def forget_batches(study_dir: Path, before: float) -> None:
    """Remove what was submitted before that time to a cluster that is gone."""
    for batch in load_batches(study_dir):
        if batch.unix_time < before:
            StudyDir(study_dir).job(batch.nonce).unlink(missing_ok=True)


def load_batches(study_dir: Path, since: float = 0.0) -> list[Batch]:
    """Batches for Ray that were submitted at `since` (Unix time) or later, oldest first; one that is damaged is told
    and left out."""
    batches = read_jobs(study_dir, Batch, schema_key="ray_schema", schema=RAY_SCHEMA)
    return sorted((batch for batch in batches if batch.unix_time >= since), key=lambda batch: batch.unix_time)
