"""`study.yaml`: the sweep as the launcher planned it, with its price, its question and how its runs are launched.

The first line is a comment with the SHA-256 of the lines below it, so that a flipped bit or a torn end is never another
price. A price is corrected in the sweep of the user, by launching it again.
"""

import hashlib
import logging
import re
from pathlib import Path
from typing import Any

import yaml

from scaling.records.files import open_regular, write_text_atomic
from scaling.records.reading import MAX_RECORD_BYTES
from scaling.records.run_dir import StudyDir

logger = logging.getLogger(__name__)

_SEAL = re.compile(rb"# sha256 of the lines below: ([0-9a-f]{64})\n")


def write_sweep(study_dir: Path, text: str) -> None:
    """Replace the frozen sweep; durable when this returns."""
    digest = hashlib.sha256(text.encode()).hexdigest()
    write_text_atomic(StudyDir(study_dir).sweep, f"# sha256 of the lines below: {digest}\n{text}")


def sweep_text(study_dir: Path) -> str:
    """The frozen sweep; empty where it is missing and, with a warning, where it is damaged."""
    path = StudyDir(study_dir).sweep
    try:
        with open_regular(path) as stream:
            content = stream.read(MAX_RECORD_BYTES)
        seal = _SEAL.match(content)
        below = content[seal.end() :] if seal else b""
        if not seal or hashlib.sha256(below).hexdigest().encode() != seal[1]:
            raise ValueError("is not what was written: its sha256 does not fit its content")
        return below.decode()
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except (OSError, ValueError) as error:
        problem = f"cannot be read ({error.strerror})" if isinstance(error, OSError) else str(error)
        _tell(path, problem)
        return ""


def frozen_sweep(study_dir: Path) -> dict[str, Any]:
    """The frozen sweep as plain data; empty where it is missing and, with a warning, where it is damaged."""
    text = sweep_text(study_dir)
    try:
        sweep = yaml.safe_load(text)
    except (ValueError, yaml.YAMLError, RecursionError):
        sweep = text
    if isinstance(sweep, dict):
        return sweep
    if text:
        _tell(StudyDir(study_dir).sweep, "is no mapping of YAML")
    return {}


def _tell(path: Path, problem: str) -> None:
    logger.warning("%s %s; what it says of the study is left out, until the study is launched again", path, problem)
