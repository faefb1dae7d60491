"""Where the members of a tar lie, found by reading headers only (ustar, GNU and pax; POSIX.1-2001).

Understands what WebDataset writers produce: regular files, folders, long names. Links, devices, sparse files and
names that leave the folder are refused, and so is a file that ends inside a member. Nothing is ever unpacked.
"""

import zlib
from collections.abc import Callable
from typing import NamedTuple

from scaling.data.format.corrupt import CorruptShardError

BLOCK = 512

READ_AHEAD = 8 * BLOCK
"""Bytes fetched for a header: small members bring their neighbours' headers with them."""

MAX_NAME_BYTES = 64 * 1024
"""Of a long name or pax header; real ones have a few hundred."""

REGULAR, FOLDER_OR_GLOBAL, LONG_NAME, LONG_LINK, PAX = (b"0", b"\0", b"7"), (b"5", b"g"), b"L", b"K", b"x"

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
        size, kind = _number(header[124:136], location, offset), header[156:157]
        if kind in REGULAR and long_size >= 0:
            size = long_size
        content = offset + BLOCK
        if content + size > tar_bytes:
            raise CorruptShardError(f"shard {location} is cut off inside the member at byte {offset}; copy it again")
        if kind in REGULAR:
            name = long_name or _header_name(header)
            if name[:1] == "/" or (".." in name and ".." in name.split("/")):
                raise CorruptShardError(f"shard {location}: the member name {name!r} leaves its folder; refused")
            members.append(Member(name, content, size))
            long_name, long_size = "", -1
        elif kind in (LONG_NAME, LONG_LINK, PAX):
            if size > MAX_NAME_BYTES:
                raise CorruptShardError(f"shard {location}: a name of {size:,} bytes at byte {offset}; refused")
            if kind == LONG_NAME:
                long_name = ahead.read(content, size).split(b"\0", 1)[0].decode("utf-8", "surrogateescape")
            elif kind == PAX:
                name, long_size = _pax_name_and_size(ahead.read(content, size))
                long_name = name or long_name
        elif kind not in FOLDER_OR_GLOBAL:
            name = long_name or _header_name(header)
            raise CorruptShardError(
                f"shard {location}: member {name!r} is a link, device or sparse file; shards hold plain files only"
            )
        offset = content + (size + BLOCK - 1) // BLOCK * BLOCK
    if offset != tar_bytes:
        raise CorruptShardError(f"shard {location} is cut off at its end, byte {tar_bytes}; copy it again")
    return TarMembers(members, False)


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
    if (total - _number(header[148:156], location, offset)) % 65_521:
        raise CorruptShardError(f"shard {location}: no tar header at byte {offset}; make or copy the shard again")


def _number(field: bytes, location: str, offset: int) -> int:
    """A tar number: octal text, or base 256 when its first bit is set."""
    if field[0] & 0x80:
        value = int.from_bytes(bytes([field[0] & 0x7F]) + field[1:], "big")
        # Above this a number is negative or absurd; either would send the reader astray.
        if value < 2**62:
            return value
    else:
        try:
            value = int(field.split(b"\0", 1)[0].strip(b" ") or b"0", 8)
        except ValueError:
            value = -1
        if value >= 0:
            return value
    raise CorruptShardError(f"shard {location}: no tar header at byte {offset}; make or copy the shard again")


def _header_name(header: bytes) -> str:
    name = header[:100].split(b"\0", 1)[0]
    # GNU tars keep times where ustar has the prefix; their magic ends in a space.
    if header[345] and header[257:263] == b"ustar\0":
        name = header[345:500].split(b"\0", 1)[0] + b"/" + name
    return name.decode("utf-8", "surrogateescape")


def _pax_name_and_size(records: bytes) -> tuple[str, int]:
    """`path` and `size` of a pax header, "" and -1 when it has none; each record is `length key=value\\n`."""
    name, size = "", -1
    while records:
        length_text, _, _ = records.partition(b" ")
        if not length_text.isdigit() or int(length_text) <= len(length_text):
            break
        record, records = records[: int(length_text)], records[int(length_text) :]
        key, _, value = record[len(length_text) + 1 :].rstrip(b"\n").partition(b"=")
        if key == b"path":
            name = value.decode("utf-8", "surrogateescape")
        elif key == b"size" and value.isdigit():
            size = int(value)
    return name, size
