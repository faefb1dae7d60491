"""Where the members of a tar are, found by reading headers only (ustar, GNU and pax; POSIX.1-2001).

Understands what WebDataset writers produce: regular files, folders, long names. Links, devices, sparse files and
names that leave the folder are refused, and so is a file that ends inside a member. Nothing is ever unpacked.
"""

import re
import zlib
from collections.abc import Callable
from typing import NamedTuple

from scaling.data.storage.integrity import CorruptShardError, describe_content

BLOCK = 512

READ_AHEAD = 8 * BLOCK
"""Bytes fetched for a header: small members bring their neighbours' headers with them."""

MAX_NAME_BYTES = 64 * 1024
"""Of a long name or pax header; real ones have a few hundred."""

MAX_MEMBERS = 4_000_000
"""Of one shard; their names and places are held in memory, about 250 bytes each."""

MAX_SIZE_DIGITS = 19
"""Of a size in a pax header."""

REGULAR, FOLDER, LONG_NAME, LONG_LINK, PAX, PAX_GLOBAL = (b"0", b"\0", b"7"), b"5", b"L", b"K", b"x", b"g"

ReadAt = Callable[[int, int], bytes]
"""(offset, size) -> the bytes there, fewer at the end of the file."""


class Member(NamedTuple):
    name: str
    offset: int
    """Of its content, bytes from the start of the tar."""
    size: int


class TarMembers(NamedTuple):
    members: list[Member]
    has_end_marker: bool
    """Without it, members may have been cut off."""


def read_members(read_at: ReadAt, tar_bytes: int, location: str) -> TarMembers:
    """All regular members in file order. `location` is for messages."""
    members: list[Member] = []
    offset, long_name, long_size = 0, "", -1
    ahead = _ReadAhead(read_at)
    while offset + BLOCK <= tar_bytes:
        header = ahead.read(offset, BLOCK)
        if header[0] == 0 and header == bytes(BLOCK):
            return TarMembers(members, True)
        _check_sum(header, location, offset)
        size, kind = _number(header[124:136], header, location, offset), header[156:157]
        if kind in REGULAR and long_size >= 0:
            size = long_size
        content = offset + BLOCK
        if content + size > tar_bytes:
            raise CorruptShardError(f"shard {location} is cut off inside the member at byte {offset}; copy it again")
        if kind in (LONG_NAME, LONG_LINK, PAX, PAX_GLOBAL):
            if size > MAX_NAME_BYTES:
                raise CorruptShardError(f"shard {location}: a name of {size:,} bytes at byte {offset}; refused")
            if kind == LONG_NAME:
                long_name = ahead.read(content, size).split(b"\0", 1)[0].decode("utf-8", "surrogateescape")
            elif kind != LONG_LINK:
                name, new_size = _pax_name_and_size(ahead.read(content, size), location, offset)
                if kind == PAX_GLOBAL and (name or new_size >= 0):
                    raise CorruptShardError(
                        f"shard {location}: the global header at byte {offset} gives all members one name or size; "
                        "pack the shard again"
                    )
                long_name, long_size = name or long_name, new_size
        else:
            name = long_name or _header_name(header)
            if kind in REGULAR:
                members.append(Member(_checked_name(name, location), content, size))
                if len(members) > MAX_MEMBERS:
                    raise CorruptShardError(
                        f"shard {location} has more than {MAX_MEMBERS:,} members; use smaller shards"
                    )
            elif kind != FOLDER:
                raise CorruptShardError(
                    f"shard {location}: member {name!r} is a link, device or sparse file; shards hold plain files only"
                )
            # What a long name or a pax header says is about the next member alone, also when that is a folder.
            long_name, long_size = "", -1
        offset = content + (size + BLOCK - 1) // BLOCK * BLOCK
    if offset != tar_bytes:
        told = describe_content(read_at(0, BLOCK)) if offset == 0 else ""
        raise CorruptShardError(f"shard {location} is cut off at its end, byte {tar_bytes}{told}; copy it again")
    return TarMembers(members, False)


def _checked_name(name: str, location: str) -> str:
    if name[:1] == "/" or (".." in name and ".." in name.split("/")):
        raise CorruptShardError(f"shard {location}: the member name {name!r} leaves its folder; refused")
    return name


class _ReadAhead:
    """Small reads served from the block that the last one fetched, where it covers them."""

    def __init__(self, read_at: ReadAt) -> None:
        self._read_at = read_at
        self._data, self._start = b"", 0

    def read(self, offset: int, size: int) -> bytes:
        begin = offset - self._start
        if not 0 <= begin <= len(self._data) - size:
            self._data, self._start, begin = self._read_at(offset, max(size, READ_AHEAD)), offset, 0
        return self._data[begin : begin + size]


def _check_sum(header: bytes, location: str, offset: int) -> None:
    """The header's own checksum: the sum of its bytes with the field itself read as eight spaces."""
    # Adler-32's low half is 1 + the sum modulo 65,521: a sum over bytes at the speed of C.
    total = (zlib.adler32(header) & 0xFFFF) - 1 - sum(header[148:156]) + 8 * 32
    if (total - _number(header[148:156], header, location, offset)) % 65_521:
        raise _no_header(header, location, offset)


def _no_header(header: bytes, location: str, offset: int) -> CorruptShardError:
    return CorruptShardError(
        f"shard {location}: no tar header at byte {offset}{describe_content(header)}; make or copy the shard again"
    )


def _number(field: bytes, header: bytes, location: str, offset: int) -> int:
    """A tar number: octal text, or base 256 when its first bit is set."""
    if field[0] & 0x80:
        value = int.from_bytes(bytes([field[0] & 0x7F]) + field[1:], "big")
        # Above this a number is negative or absurd; either would send the reader astray.
        if value < 2**62:
            return value
    else:
        try:
            # `int` would take underscores and signs as well.
            text = field.split(b"\0", 1)[0].strip(b" ")
            value = int(text or b"0", 8) if text.isdigit() or not text else -1
        except ValueError:
            value = -1
        if value >= 0:
            return value
    raise _no_header(header, location, offset)


def _header_name(header: bytes) -> str:
    name = header[:100].split(b"\0", 1)[0]
    # GNU tars keep times where ustar has the prefix; their magic ends in a space.
    if header[345] and header[257:263] == b"ustar\0":
        name = header[345:500].split(b"\0", 1)[0] + b"/" + name
    return name.decode("utf-8", "surrogateescape")


def _pax_name_and_size(records: bytes, location: str, offset: int) -> tuple[str, int]:
    """`path` and `size` of a pax header, "" and -1 when it has none; each record is `length key=value\\n`."""
    name, size = "", -1
    while records.rstrip(b"\0"):
        length_text, _, _ = records.partition(b" ")
        length = int(length_text) if re.fullmatch(rb"[0-9]{1,6}", length_text) else 0
        if not len(length_text) < length <= len(records):
            raise CorruptShardError(
                f"shard {location}: the pax header at byte {offset} is broken; copy the shard again"
            )
        record, records = records[:length], records[length:]
        key, _, value = record[len(length_text) + 1 :].rstrip(b"\n").partition(b"=")
        if key == b"path":
            name = value.decode("utf-8", "surrogateescape")
        elif key.startswith(b"GNU.sparse"):
            raise CorruptShardError(f"shard {location}: a sparse file at byte {offset}; shards hold plain files only")
        elif key == b"size":
            if not value.isdigit() or len(value) > MAX_SIZE_DIGITS:
                raise CorruptShardError(
                    f"shard {location}: the pax header at byte {offset} gives the size {value[:40]!r}; refused"
                )
            size = int(value)
    return name, size
