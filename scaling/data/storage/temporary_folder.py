"""Folders for what a process needs on a disk while it lives, such as copies of remote shards.

A process that is killed cannot remove its own. Each folder is locked for as long as its process lives, and the next
process of the same user and machine that needs one removes those that nobody holds.
"""

import fcntl
import os
import shutil
import socket
import tempfile
import weakref
from contextlib import suppress
from functools import cache
from pathlib import Path

OPTIONS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW


class TemporaryFolder:
    """A new folder, removed with this object or with the process."""

    def __init__(self) -> None:
        _remove_forgotten()
        # It is locked before it has its name, so that nobody takes it for a forgotten one.
        new = Path(tempfile.mkdtemp(prefix=f".{_prefix()}"))
        lock = os.open(new, OPTIONS)
        with suppress(OSError):  # Where the system has no such locks, nobody finds it free either.
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self.path = new.rename(new.with_name(new.name[1:]))
        weakref.finalize(self, _remove, self.path, lock)


def _prefix() -> str:
    """Of this machine, because several may share a temporary folder and know nothing of each other's locks."""
    return f"scaling-shards-{socket.gethostname()}-"


def _remove(path: Path, lock: int) -> None:
    shutil.rmtree(path, ignore_errors=True)
    os.close(lock)


@cache
def _remove_forgotten() -> None:
    """Once a process: the folders of this user that no process holds."""
    for path in Path(tempfile.gettempdir()).glob(f"{_prefix()}*"):
        with suppress(OSError):
            lock = os.open(path, OPTIONS)
            try:
                if os.fstat(lock).st_uid == os.getuid():
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(path)
            finally:
                os.close(lock)
