"""What an attempt computes with, held against what the numbers so far were computed with.

Threads, devices, library versions and the division of a batch change the order of sums, and so the last digits of a
step and, after many steps, a result. None of it is part of a run's identity. So a run that is continued, or trained
again, with anything else says so: in its log, its attempt, its result and every report. Code is named by version; its
commits stand in the records.
"""

import logging
from collections.abc import Mapping
from pathlib import Path

from scaling.records.attempts.attempt import ATTEMPT_SCHEMA, Attempt, load_attempt
from scaling.records.reading import RecordError, read_record, write_record
from scaling.records.result import RunResult
from scaling.records.run_dir import RunDir

logger = logging.getLogger(__name__)


def used_by(record: Attempt | RunResult) -> dict[str, str]:
    """What a record says that its numbers were computed with, by what it is."""
    used = {"device": record.device, "processes": str(record.num_devices), "threads": str(record.threads)}
    if isinstance(record, Attempt):
        used |= {name.replace("_", " "): str(value).lower() for name, value in record.division.items()}
        used["harness"] = record.version
    return used | record.packages


def changes_between(before: Mapping[str, str], now: Mapping[str, str]) -> str:
    """`threads 2 instead of 1, torch 2.6.0 instead of 2.5.1`; empty where both say the same."""
    names = [name for name in dict.fromkeys((*before, *now)) if before.get(name) != now.get(name)]
    return ", ".join(f"{name} {now.get(name, 'absent')} instead of {before.get(name, 'absent')}" for name in names)


def changes_of(run_dir: Path, attempt: Attempt, step: int, continued: int) -> tuple[str, ...]:
    """All changes that the numbers of `attempt` carry, oldest first, each a sentence without its full stop.

    `attempt` resumes at `step` from a checkpoint of attempt number `continued`, or begins at step 0 (0): then it is
    held against the training of the same run that ended before, also when the run's folder has been removed since.
    """
    if continued:
        before = _load(run_dir, continued)
        earlier, words = before.changes if before else (), f"continued at step {step:,}"
    else:
        before, earlier, words = _first_training(run_dir), (), "trained again"
    changes = changes_between(used_by(before), used_by(attempt)) if before else ""
    return (*earlier, f"{words} with {changes}") if changes else earlier


def note_training(run_dir: Path, attempt: Attempt) -> None:
    """Keep, outside of the run's folder, what its training was done with; the first one stays."""
    path = RunDir(run_dir).trained
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        write_record(path, attempt)


def _load(run_dir: Path, number: int) -> Attempt | None:
    try:
        return load_attempt(run_dir, number)
    except (FileNotFoundError, RecordError) as error:
        logger.warning("what attempt %d computed with cannot be compared: %s", number, error)
        return None


def _first_training(run_dir: Path) -> Attempt | None:
    path = RunDir(run_dir).trained
    try:
        return read_record(path, Attempt, schema_key="attempt_schema", schema=ATTEMPT_SCHEMA)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except RecordError as error:
        logger.warning("what the run was trained with before cannot be compared: %s", error)
        return None
