"""`study/jobs/*.json`: what launchers handed to a scheduler, to Ray or to a keeper, each kind with a key of its own."""

import logging
from functools import cache
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel

from scaling.records.reading import RecordError, parse_record, read_object
from scaling.records.run_dir import StudyDir

logger = logging.getLogger(__name__)

M = TypeVar("M", bound=BaseModel)


def read_jobs(study_dir: Path, kind: type[M], *, schema_key: str, schema: int) -> list[M]:
    """The job files of one kind, by name. A damaged one is told once and left out: its runs are submitted again, and
    what is left of its jobs finds that they belong to a later submission, or that a process holds them."""
    found = []
    for path in sorted(StudyDir(study_dir).jobs.glob("*.json")):
        try:
            value = read_object(path) if path.stat().st_size else {}
            if schema_key in value:
                found.append(parse_record(path, value, kind, schema_key=schema_key, schema=schema))
        except FileNotFoundError:
            continue  # Its runs have ended in this moment.
        except RecordError as error:
            _tell(str(error))
        except OSError as error:
            _tell(f"{path}: cannot be read ({error.strerror})")
    return found


@cache
def _tell(problem: str) -> None:
    logger.warning("%s; these jobs are left out", problem)
