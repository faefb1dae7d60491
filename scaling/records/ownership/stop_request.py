"""`stop`: a person or a search asks that a run stops for good, unlike a pre-emption, after which it continues.

Written before the run's processes are asked to leave, so that they know why; removed when the run is submitted again.
"""

from pathlib import Path
from typing import Literal

from scaling.records.attempts.causes import Cause
from scaling.records.files import open_regular, write_text_atomic
from scaling.records.run_dir import RunDir

StopCause = Literal[Cause.CANCELLED, Cause.PRUNED]


def request_stop(run_dir: Path, cause: StopCause) -> None:
    write_text_atomic(RunDir(run_dir).stop, f"{cause}\n")


def requested_stop(run_dir: Path) -> Cause | None:
    """CANCELLED or PRUNED; None when the run may continue. Any other content is taken for a cancellation."""
    try:
        with open_regular(RunDir(run_dir).stop) as stream:
            word = stream.read(100).decode(errors="replace").strip()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError:
        word = ""
    return Cause.PRUNED if word == Cause.PRUNED else Cause.CANCELLED


def clear_stop(run_dir: Path) -> None:
    RunDir(run_dir).stop.unlink(missing_ok=True)
