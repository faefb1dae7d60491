"""From a shard's location to a local file that holds its plain tar.

A plain local tar is that file itself, once it has been compared with the manifest. A remote one is copied whole,
because the windows of the training order visit its samples in random order: into a folder of bounded size, the study's
cache or else a temporary one of this process, from which it may be removed and is then fetched again. A gzipped one is
unpacked into a temporary folder of this process, bounded in size, and removed when it is no longer referenced. Commands
(`pipe:` and the like) are never run.
"""

import gzip
import os
import threading
import time
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from scaling.data.storage.integrity import CorruptShardError
from scaling.data.storage.remote import RemoteFiles, is_url
from scaling.data.storage.shard_cache import ShardCache
from scaling.data.storage.temporary_folder import TemporaryFolder
from scaling.data.storage.verified_shards import VerifiedShards
from scaling.errors import UserError
from scaling.records.files import open_regular
from scaling.records.run_plan import AccessPlan

GZIP_MAGIC = b"\x1f\x8b"

MAX_UNPACKED_BYTES = 16 * 1024**3
"""Of a gzipped shard; above it, a small file was made to fill a disk."""

COPY_BYTES = 1024 * 1024


class LocalTar:
    """A plain tar on this machine, at `path`; a temporary one is removed with this object."""

    def __init__(
        self, location: str, fetch: Callable[[], Path] | None = None, check: Callable[[], None] | None = None
    ) -> None:
        """`fetch` brings a remote shard to this machine, and again when its copy has been removed; `check` compares a
        local one with the manifest."""
        self._fetch = fetch
        self.check = check
        """Whether a local shard is still the one of the manifest; None where that is not known."""
        if check is not None:
            check()
        self._is_packed = False
        self.copy = Path(location) if fetch is None else fetch()
        """The shard as it came, packed or plain."""
        self.path = self.copy
        with self._open_copy(location) as stream:
            self._is_packed = stream.read(2) == GZIP_MAGIC
            if self._is_packed:
                stream.seek(0)
                self._folder = TemporaryFolder()
                self.path = self._folder.path / "unpacked.tar"
                _unpack(stream, self.path, location)

    def _open_copy(self, location: str) -> BinaryIO:
        """The shard as it came; a copy that the cache removes at that moment is fetched again."""
        while True:
            try:
                return open_regular(self.copy)
            except FileNotFoundError as error:
                if self._fetch is None:
                    raise _unreadable(location, error) from error
                self._fetch()
            except OSError as error:
                raise _unreadable(location, error) from error

    def open(self) -> int:
        """A descriptor to read from, to be closed by the caller."""
        if self._fetch is None or self._is_packed:
            return os.open(self.path, os.O_RDONLY)
        while True:
            try:
                descriptor = os.open(self.path, os.O_RDONLY)
            except FileNotFoundError:
                self._fetch()
                continue
            now = time.time_ns()
            # The cache removes what was not used for longest; one that cannot be written removes nothing.
            with suppress(OSError):
                os.utime(descriptor, ns=(now, now))
            return descriptor


class ShardFiles:
    """Opens a data set's shards, local and remote ones. Threads may share one."""

    def __init__(self, access: AccessPlan) -> None:
        self._access = access
        self._remote = RemoteFiles(access.storage)
        self._verified = VerifiedShards(verify=access.verify)
        self._lock = threading.Lock()
        self._cache: ShardCache | None = None
        self._folder: TemporaryFolder | None = None

    def open(self, location: str) -> LocalTar:
        """A shard of which nothing is known yet; a copy of it is removed with the object."""
        if not is_url(location):
            return LocalTar(location)
        folder = TemporaryFolder()
        size = self._remote.size(location)

        def fetch() -> Path:
            path = folder.path / "shard"
            try:
                with path.open("wb") as stream:
                    self._download(location, size, stream)
            except OSError as error:
                raise _no_room(location, path, error) from error
            return path

        return LocalTar(location, fetch)

    def open_known(self, location: str, num_bytes: int, sha256: str) -> LocalTar:
        """A shard as a manifest describes it; the copy of a remote one has been checked against that."""
        if not is_url(location):
            return LocalTar(location, check=lambda: self.check(location, num_bytes, sha256))
        return LocalTar(location, lambda: self.fetch(location, num_bytes, sha256))

    def check(self, location: str, num_bytes: int, sha256: str) -> None:
        """CorruptShardError when a local shard is not the one of the manifest."""
        self._verified.check(Path(location), num_bytes, sha256)

    def fetch(self, url: str, num_bytes: int, sha256: str) -> Path:
        """Make sure that a copy of a remote shard is here."""
        return self._open_cache().get(sha256, num_bytes, url, lambda stream: self._download(url, num_bytes, stream))

    def is_here(self, sha256: str) -> bool:
        """Whether a copy of a remote shard is here already."""
        return self._open_cache().path(sha256).exists()

    def shared_access(self) -> AccessPlan:
        """Of other processes that use the same copies of remote shards, also those in a folder of this process."""
        return self._access.model_copy(update={"cache": str(self._open_cache().folder)})

    def _download(self, url: str, num_bytes: int, stream: BinaryIO) -> None:
        for piece in self._remote.stream(url, num_bytes):
            stream.write(piece)

    def _open_cache(self) -> ShardCache:
        with self._lock:
            if self._cache is None:
                if not self._access.cache:
                    self._folder = TemporaryFolder()
                folder = self._folder.path if self._folder else Path(self._access.cache)
                self._cache = ShardCache(folder, int(self._access.cache_gb * 1e9))
            return self._cache


def _unreadable(location: str, error: OSError) -> UserError:
    return UserError(f"shard {location} cannot be read ({error.strerror}); is the manifest's folder right?")


def _no_room(location: str, path: Path, error: OSError) -> UserError:
    return UserError(
        f"shard {location} cannot be kept in {path.parent} ({error.strerror or error}); make room, or set TMPDIR to a "
        "folder with room"
    )


def _unpack(copy: BinaryIO, target: Path, location: str) -> None:
    with gzip.open(copy) as packed, target.open("wb") as unpacked:
        try:
            while block := packed.read(COPY_BYTES):
                unpacked.write(block)
                if unpacked.tell() > MAX_UNPACKED_BYTES:
                    raise CorruptShardError(
                        f"shard {location} unpacks to more than {MAX_UNPACKED_BYTES:,} bytes; use smaller shards"
                    )
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise CorruptShardError(f"shard {location} is a broken gzip file ({error}); copy it again") from error
        except OSError as error:
            raise _no_room(location, target, error) from error
