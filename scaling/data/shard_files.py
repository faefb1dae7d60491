"""From a shard's location to a local file that holds its plain tar.

A plain local tar is that file itself. A gzipped one is unpacked into a temporary folder of this process, bounded
in size, and removed as soon as nobody refers to it. Commands (`pipe:` and the like) are never run.
"""

import gzip
import tempfile
import zlib
from pathlib import Path

from scaling.data.corrupt import CorruptShardError
from scaling.errors import UserError

GZIP_MAGIC = b"\x1f\x8b"

MAX_UNPACKED_BYTES = 16 * 1024**3
"""Of a gzipped shard; above it, a small file was made to fill a disk."""

COPY_BYTES = 1024 * 1024


class LocalTar:
    """A plain tar on this machine, at `path`; a temporary one vanishes with this object."""

    def __init__(self, location: str) -> None:
        if location.startswith("pipe:"):
            raise UserError(f"shard {location}: commands are never run; write the shards to files and index those")
        if "://" in location:
            raise UserError(f"shard {location}: only local files are read; copy the shard and index it again")
        self.path = Path(location)
        try:
            with self.path.open("rb") as stream:
                is_packed = stream.read(2) == GZIP_MAGIC
        except OSError as error:
            raise UserError(
                f"shard {location} cannot be read ({error.strerror}); is the manifest's folder right?"
            ) from error
        if is_packed:
            self._folder = tempfile.TemporaryDirectory(prefix="shard-", ignore_cleanup_errors=True)
            self.path = Path(self._folder.name) / "unpacked.tar"
            _unpack(location, self.path)


def _unpack(location: str, target: Path) -> None:
    with gzip.open(location) as packed, target.open("wb") as unpacked:
        try:
            while block := packed.read(COPY_BYTES):
                unpacked.write(block)
                if unpacked.tell() > MAX_UNPACKED_BYTES:
                    raise CorruptShardError(
                        f"shard {location} unpacks to more than {MAX_UNPACKED_BYTES:,} bytes; use smaller shards"
                    )
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise CorruptShardError(f"shard {location} is a broken gzip file ({error}); copy it again") from error
