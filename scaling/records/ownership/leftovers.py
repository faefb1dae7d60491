"""Temporary files of processes that died: swept by the next one that holds the run."""

import contextlib
import os
import re
from pathlib import Path

from scaling.records.files import TEMPORARY
from scaling.records.run_dir import RunDir

OLD_SECONDS = 600.0
"""A temporary file of another machine that is older than this by the file system's own clock is nobody's."""

_OWNER = re.compile(r"\.(?P<host>[^/]+?)[.-](?P<pid>\d+)(?:-[0-9a-f]{32})?" + re.escape(TEMPORARY))


def sweep_leftovers(run_dir: Path) -> list[Path]:
    """Remove temporary files that no living process owns, and return them; the caller holds the run's lease."""
    run = RunDir(run_dir)
    now = run.lease.stat().st_mtime
    removed = []
    for folder in (run.path, run.attempts, run.evals, run.best_weights.parent):
        for path in folder.glob(f"*{TEMPORARY}"):
            with contextlib.suppress(OSError):
                if path.is_file() and _is_dead(path, now):
                    path.unlink()
                    removed.append(path)
    return removed


def _is_dead(path: Path, now: float) -> bool:
    """Names without an owner are those of the run's holder, which is the caller."""
    host = os.uname().nodename
    if f".{host}." in path.name or f".{host}-" in path.name:
        match = re.search(rf"\.{re.escape(host)}[.-](\d+)", path.name)
        return match is None or not _lives(int(match[1]))
    return not _OWNER.search(path.name) or now - path.stat().st_mtime > OLD_SECONDS


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
