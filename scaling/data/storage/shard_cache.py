"""Copies of remote shards on this machine's disk, in a folder of bounded size that processes may share.

A copy is named by the sha256 that the manifest promises, so it can never be mistaken for another shard, and every
process checks it once before it trusts it. A file being fetched is locked, has its final size from the start and is
renamed when it is complete: others wait for it instead of fetching it too, a crash leaves nothing that could be
taken for complete, and the bound holds for what is under way as well. The least recently used copies go first. Files
with other names are never touched.
"""

import fcntl
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from scaling.data.storage.integrity import CorruptShardError, file_sha256
from scaling.errors import UserError
from scaling.records.files import open_to_append

OURS = re.compile(r"[0-9a-f]{64}\.(shard|part)")

SHA256 = re.compile(r"[0-9a-f]{64}")

WAIT_SECONDS = 0.05
"""Between looks for room while all of it is being written to."""


class ShardCache:
    """At most `max_bytes` of shards in `folder`. Threads and processes may share it."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"the shard cache {folder} cannot be made ({error.strerror}); name another") from error
        self.folder = folder
        self._max_bytes = max_bytes
        self._trusted: set[str] = set()

    def path(self, sha256: str) -> Path:
        """Where the copy of a shard is, if there is one; UserError for what could name another file."""
        if not SHA256.fullmatch(sha256):
            raise UserError(f"sha256 {sha256[:80]!r} of a shard is not 64 of the characters 0-9a-f; index it again")
        return self.folder / f"{sha256}.shard"

    def get(self, sha256: str, num_bytes: int, url: str, download: Callable[[BinaryIO], None]) -> Path:
        """The copy of a shard, fetched by `download` into a file when there is none; CorruptShardError when what
        comes is not what the manifest promises."""
        path, part = self.path(sha256), self.folder / f"{sha256}.part"
        while not self._is_sound(path, sha256, num_bytes):
            with self._open_part(part) as stream:
                fcntl.flock(stream, fcntl.LOCK_EX)
                if not _is_still(stream, part):
                    continue  # Another one completed it, or gave it up, while this one waited.
                try:
                    if not path.exists():
                        self._fill(stream, part, sha256, num_bytes, url, download)
                        # A scan for room must see the file under one of its two names.
                        with self._locked():
                            part.replace(path)
                except OSError as error:
                    raise UserError(
                        f"shard {url} cannot be kept in {self.folder} ({error.strerror}); make room, or set another "
                        "cache or a smaller cache_gb"
                    ) from error
                finally:
                    if _is_still(stream, part):
                        with suppress(OSError):
                            part.unlink()
        return path

    def _open_part(self, part: Path) -> BinaryIO:
        try:
            return open_to_append(part, follow_link=False)
        except OSError as error:
            raise UserError(
                f"the shard cache {self.folder} cannot be written ({part.name}: {error.strerror}); make it writable, "
                "remove what is in the place of that file, or set another cache"
            ) from error

    def _fill(
        self, stream: BinaryIO, part: Path, sha256: str, num_bytes: int, url: str, download: Callable[[BinaryIO], None]
    ) -> None:
        """Bring a locked part file to its checked content."""
        stream.truncate(0)
        self._reserve(stream, num_bytes, url)
        with part.open("r+b") as target:
            download(target)
        if file_sha256(part) != sha256:
            raise CorruptShardError(f"shard {url} is not the file that was indexed: its sha256 differs; index it again")
        self._trusted.add(sha256)

    def _is_sound(self, path: Path, sha256: str, num_bytes: int) -> bool:
        try:
            if path.stat().st_size == num_bytes and (sha256 in self._trusted or file_sha256(path) == sha256):
                self._trusted.add(sha256)
                return True
            path.unlink()
        except FileNotFoundError:
            pass
        except OSError as error:
            raise UserError(
                f"{path} in the shard cache is no copy of a shard and cannot be replaced ({error.strerror}); remove "
                "it, or set another cache"
            ) from error
        return False

    def _reserve(self, stream: BinaryIO, num_bytes: int, url: str) -> None:
        """Give the locked part file its final size, once older copies have made room for it."""
        if num_bytes > self._max_bytes:
            raise UserError(
                f"shard {url} has {num_bytes:,} bytes, more than the {self._max_bytes:,} that cache_gb allows for all"
            )
        while True:
            with self._locked():
                free = self._max_bytes - sum(size for _, size, _ in self._files())
                for _, size, path in self._files():
                    if free < num_bytes and _remove(path):
                        free += size
                if free >= num_bytes:
                    stream.truncate(num_bytes)
                    return
            time.sleep(WAIT_SECONDS)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with open_to_append(self.folder / ".lock", follow_link=False) as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            yield

    def _files(self) -> list[tuple[int, int, Path]]:
        """(last use, bytes, path) of all copies and parts, least recently used first."""
        found = []
        for entry in os.scandir(self.folder):
            if OURS.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                try:
                    status = entry.stat()
                except FileNotFoundError:
                    continue
                found.append((status.st_mtime_ns, status.st_size, Path(entry.path)))
        return sorted(found)


def _remove(path: Path) -> bool:
    """Remove a copy, or the part file of a process that has ended; a part that is being written is locked and kept."""
    try:
        with path.open("rb") as stream:
            if path.suffix == ".part":
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
    except BlockingIOError:
        return False
    except FileNotFoundError:
        return False  # A part that has just been completed still takes its room, under its new name.
    return True


def _is_still(stream: BinaryIO, path: Path) -> bool:
    """Whether an open file is the file now at `path`."""
    try:
        return os.path.samestat(os.fstat(stream.fileno()), path.stat())
    except FileNotFoundError:
        return False
