"""Who started whom, as the kernel tells it."""

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
