"""Who started whom, as the kernel tells it."""

import contextlib
import os
import time
from pathlib import Path

END_SECONDS = 30.0
"""Patience of a test with processes that shall end."""


def children(process_id: int) -> list[int]:
    """Process ids of what a process's first thread started and what still is there."""
    path = Path(f"/proc/{process_id}/task/{process_id}/children")
    return [int(word) for word in path.read_text().split()] if path.exists() else []


def await_end(process_ids: list[int]) -> None:
    """Until none of them runs any more."""
    deadline = time.monotonic() + END_SECONDS
    while alive := [one for one in process_ids if _is_alive(one)]:
        assert time.monotonic() < deadline, alive
        time.sleep(0.05)


def _is_alive(process_id: int) -> bool:
    try:
        return Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def inodes(folder: str) -> set[int]:
    """Of the files in it."""
    with os.scandir(folder) as entries:
        return {entry.inode() for entry in entries}


def await_only_used(folder: str, before: set[int]) -> None:
    """Until each file that is new in a folder of memory is in use by a process: other tests make files there, too."""
    deadline = time.monotonic() + END_SECONDS
    while left := inodes(folder) - before - _mapped_inodes():
        assert time.monotonic() < deadline, left
        time.sleep(0.05)


def _mapped_inodes() -> set[int]:
    """Of what any process has mapped."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/maps"):
        with contextlib.suppress(OSError):
            found |= {int(line.split()[4]) for line in path.read_bytes().splitlines()}
    return found
