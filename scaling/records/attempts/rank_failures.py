"""`failure.RANK`: why a process other than the first failed, left where the first one, or a backend, finds it.

The first process keeps the records; all it sees of a failing partner is a connection that ends. Each word bears a token
of the start that it belongs to, so that one of an earlier start is never taken for the reason of this one.
"""

import contextlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from scaling.records.attempts.causes import Cause
from scaling.records.reading import read_sealed, write_sealed
from scaling.records.run_dir import RunDir

START_VARIABLES = (
    "MASTER_ADDR",
    "MASTER_PORT",
    "TORCHELASTIC_RUN_ID",
    "TORCHELASTIC_RESTART_COUNT",
    "SLURM_JOB_ID",
    "SLURM_RESTART_COUNT",
)
"""Environment variables that all processes of one start share, and no two starts of a run."""

_GRAVEST_FIRST = (
    *(Cause.BAD_INPUT, Cause.FAILED, Cause.DIVERGED),
    *(Cause.OUT_OF_MEMORY, Cause.MACHINE_TROUBLE, Cause.LOST),
)


@dataclass(frozen=True, slots=True)
class RankFailure:
    """What one process said before it ended."""

    rank: int
    cause: Cause
    message: str


def start_token(environment: Mapping[str, str] | None = None) -> str:
    """The same in all processes of one start."""
    variables = os.environ if environment is None else environment
    return " ".join(variables.get(name, "-") for name in START_VARIABLES)


def report_failure(run_dir: Path, failure: RankFailure) -> None:
    """Tell the others why this process ends; a disk that refuses it changes nothing about the failure."""
    row = {"token": start_token(), "cause": failure.cause, "message": failure.message}
    with contextlib.suppress(OSError):
        write_sealed(RunDir(run_dir).failure(failure.rank), row)


def read_failures(run_dir: Path, token: str | None = None) -> list[RankFailure]:
    """What processes said, by rank; with `token` only those of that start."""
    failures = []
    for rank, path in _failure_files(run_dir):
        try:
            row = read_sealed(path)
            if token in (None, row["token"]):
                failures.append(RankFailure(rank, Cause(row["cause"]), str(row["message"])))
        except (OSError, ValueError, KeyError):
            continue
    return failures


def clear_failures(run_dir: Path, keep_token: str) -> None:
    """Remove what the processes of other starts said."""
    kept = {failure.rank for failure in read_failures(run_dir, keep_token)}
    for rank, path in _failure_files(run_dir):
        if rank not in kept:
            path.unlink(missing_ok=True)


def together(failures: Iterable[RankFailure]) -> tuple[Cause, str]:
    """The cause and the sentence of an attempt in which these processes failed (at least one)."""
    by_rank = sorted(failures, key=lambda failure: failure.rank)
    cause = min((failure.cause for failure in by_rank), key=_gravity)
    return cause, "; ".join(f"process {failure.rank}: {failure.message}" for failure in by_rank)


def _gravity(cause: Cause) -> int:
    return _GRAVEST_FIRST.index(cause) if cause in _GRAVEST_FIRST else len(_GRAVEST_FIRST)


def _failure_files(run_dir: Path) -> list[tuple[int, Path]]:
    files = []
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        for path in run_dir.iterdir():
            stem, _, rank = path.name.partition(".")
            if stem == "failure" and rank.isascii() and rank.isdecimal() and path == RunDir(run_dir).failure(int(rank)):
                files.append((int(rank), path))
    return sorted(files)
