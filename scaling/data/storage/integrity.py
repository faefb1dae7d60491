"""Whether stored bytes are those that were written: the checksum that names a shard, and what is raised where they are
not."""

import hashlib
from pathlib import Path

from scaling.errors import UserError
from scaling.records.files import open_regular


class CorruptShardError(UserError):
    """A shard is not what a shard must be; the text names shard and member."""


class CorruptSampleError(CorruptShardError):
    """One sample cannot be used, while the rest of its shard can; the text names shard and key."""


CONTENTS = {
    b"<": "a web page or XML",
    b"version https://git-lfs": "a Git LFS pointer, not the file itself (git lfs pull)",
    b"PK\x03\x04": "a zip archive",
    b"\x28\xb5\x2f\xfd": "a zstd archive",
    b"\xfd7zXZ": "an xz archive",
    b"BZh": "a bzip2 archive",
    b"{": "JSON",
    b"PAR1": "a Parquet file",
}
"""What the first bytes of something that is no tar say it is."""


def describe_content(head: bytes) -> str:
    """What a file that is no tar seems to be, as the end of a sentence; empty when its first bytes do not say."""
    text = head.lstrip(b"\xef\xbb\xbf \r\n\t")
    for magic, name in CONTENTS.items():
        if text.startswith(magic):
            return f" (it begins like {name})"
    return ""


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, hexadecimal."""
    with open_regular(path) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
