"""Whether a local shard is the file that its manifest describes: its size at every opening, its SHA-256 once.

A checksum is computed when a shard is first used on a machine and then remembered in the user's cache folder, by the
file's path, device, inode, size and times of change, so that other runs and processes need not read it again. Entries
are hashes in 256 small append-only files, each locked while one of its shards is read; where the folder cannot be
written, every process checks for itself.
"""

import fcntl
import hashlib
import logging
import os
import platform
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scaling.data.storage.integrity import CorruptShardError, file_sha256
from scaling.errors import UserError

logger = logging.getLogger(__name__)

MAX_MEMORY_BYTES = 4_000_000
"""Of each of the 256 files; a larger one is begun anew."""

SETTLED_SECONDS = 2.0
"""A file that changed less than this before it was read could change again without a new time."""


def memory_folder() -> Path:
    """Where checked shards are remembered: `scaling-study/verified` in the user's cache folder."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "scaling-study" / "verified"


class VerifiedShards:
    """Checks local shards against their manifest. Threads and processes may share its folder."""

    def __init__(self, *, verify: bool, folder: Path | None = None) -> None:
        """`verify` off compares sizes only; `folder` remembers what was checked, by default `memory_folder()`."""
        self._verify = verify
        self._folder = folder
        self._known: set[str] = set()
        self._in_progress: dict[str, threading.Lock] = {}
        self._lock = threading.Lock()

    def check(self, path: Path, num_bytes: int, sha256: str) -> None:
        """CorruptShardError when the file is not the one that was indexed."""
        try:
            status = path.stat()
        except OSError as error:
            raise UserError(
                f"shard {path} cannot be read ({error.strerror}); is the manifest's folder right?"
            ) from error
        if status.st_size != num_bytes:
            raise CorruptShardError(
                f"shard {path} has {status.st_size:,} bytes, but the manifest says {num_bytes:,}; copy it again, or "
                "index the shards again"
            )
        entry = _entry(path, status, sha256)
        if not self._verify or entry in self._known:
            return
        with self._lock:
            mine = self._in_progress.setdefault(entry, threading.Lock())
        with mine:
            if entry in self._known:
                return
            with self._memory(entry) as remembered:
                if not remembered:
                    self._read(path, sha256)
            with self._lock:
                self._known.add(entry)
                self._in_progress.pop(entry, None)

    def _read(self, path: Path, sha256: str) -> None:
        found = file_sha256(path)
        if found != sha256:
            raise CorruptShardError(
                f"shard {path} is not the file that was indexed: its sha256 is {found[:12]}…, but the manifest says "
                f"{sha256[:12]}…; copy it again, or index the shards again"
            )

    @contextmanager
    def _memory(self, entry: str) -> Iterator[bool]:
        """Whether an entry is remembered; after the body it is, provided that the file had settled."""
        folder = self._folder or memory_folder()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            stream = (folder / entry[:2]).open("a+b")
        except OSError as error:
            logger.debug("checked shards are not remembered in %s (%s)", folder, error.strerror)
            yield False
            return
        with stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX)
            except OSError:  # A file system without locks.
                yield False
                return
            if os.fstat(stream.fileno()).st_size > MAX_MEMORY_BYTES:
                stream.truncate(0)
            stream.seek(0)
            remembered = entry[:64].encode() in stream.read().split(b"\n")
            yield remembered
            if not remembered and not entry.endswith("-new"):
                # A line feed first: what a crash may have left unfinished becomes a line of its own.
                stream.write(f"\n{entry}\n".encode())


def _entry(path: Path, status: os.stat_result, sha256: str) -> str:
    """A hash of everything that would change if the file did; with `-new` behind it when the file has not settled."""
    facts = (
        *(platform.node(), os.path.abspath(path), status.st_dev, status.st_ino, status.st_size),  # noqa: PTH100
        *(status.st_mtime_ns, status.st_ctime_ns, sha256),
    )
    text = hashlib.sha256("\0".join(map(str, facts)).encode("utf-8", "surrogateescape")).hexdigest()
    has_settled = time.time() - max(status.st_mtime, status.st_ctime) > SETTLED_SECONDS
    return text if has_settled else f"{text}-new"
