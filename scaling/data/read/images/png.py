"""PNGs as most data sets hold them, decoded by libspng, which takes less than half of Pillow's time.

A *plain* PNG is gray, RGB or RGBA of 8 bits a channel, not interlaced, and whole: a header, pixels in one run of
chunks, an end, and beside them only chunks that neither change pixels nor make Pillow refuse the file. libspng gets the
header and the pixels alone, so that it cannot stumble over the other chunks, apply them or be made to inflate them.
What it refuses, and every PNG that is not plain, is for Pillow.

Files are accepted, and have the pixels, as Pillow has it. The one exception: where the stream of compressed pixels
breaks off after the last pixel, before the marks of its end, Pillow accepts some files and not others; all are accepted
here.
"""

from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple
from zlib import crc32

import numpy as np
from imagecodecs import SpngError, spng_decode
from numpy.typing import NDArray

MAGIC = b"\x89PNG\r\n\x1a\n"

NOTES = (b"tEXt", b"zTXt", b"iTXt", b"iCCP")
"""Chunks that have nothing to do with the stored pixels: texts and a colour profile, which is not applied."""

FRAME = 12
"""Bytes of a chunk beside its content: length, kind and checksum."""

MAX_CHUNKS = 100_000
"""Encoders cut the pixels into parts of 8 kB and more; Pillow takes seconds for millions of chunks."""

HEADER_START = MAGIC + b"\0\0\0\rIHDR"

HEADER_END = len(MAGIC) + FRAME + 13

PLAIN_LAYOUTS = (b"\x08\0\0\0\0", b"\x08\x02\0\0\0", b"\x08\x06\0\0\0")
"""Bits a channel, colours (gray, RGB, RGBA), compression, filters and no interlacing, as the header has them."""

SIZES = {b"gAMA": 4, b"cHRM": 32, b"sRGB": 1, b"pHYs": 9}
"""Bytes in chunks that Pillow reads, and refuses when there are too few."""

UNREAD = (b"tIME", b"bKGD", b"sBIT", b"eXIf")
"""Chunks in which Pillow accepts any bytes."""


class PlainPng(NamedTuple):
    height: int
    width: int
    encoded: bytes
    """Without the chunks that are neither header nor pixels nor end."""


def has_too_many_chunks(encoded: bytes) -> bool:
    if len(encoded) < MAX_CHUNKS * FRAME:
        return False
    return sum(1 for _ in islice(_chunks(encoded), MAX_CHUNKS + 1)) > MAX_CHUNKS


def without_notes(encoded: bytes) -> bytes:
    """A PNG without `NOTES`; anything else as it is."""
    if not encoded.startswith(MAGIC):
        return encoded
    return MAGIC + b"".join(chunk for chunk in _chunks(encoded) if chunk[4:8] not in NOTES)


def find_plain(encoded: bytes) -> PlainPng | None:
    """What libspng needs of a plain PNG; None for every other file. Pixels are not looked at."""
    if not encoded.startswith(HEADER_START) or encoded[24:29] not in PLAIN_LAYOUTS:
        return None
    first = last = 0
    position = HEADER_END
    while position + FRAME <= len(encoded):
        end = position + FRAME + int.from_bytes(encoded[position : position + 4], "big")
        kind = encoded[position + 4 : position + 8]
        if end > len(encoded):
            return None
        if kind == b"IDAT":
            if first and last != position:
                return None
            first, last = first or position, end
        elif kind == b"IEND":
            return _cut(encoded, first, last, position, end) if first else None
        elif not _is_ignored(kind, encoded[position:end]):
            return None
        position = end
    return None


def decode_plain(png: PlainPng) -> NDArray[np.uint8] | None:
    """Its RGB pixels; None when libspng refuses it."""
    try:
        pixels = spng_decode(png.encoded)
    except SpngError:
        return None
    if pixels.ndim == 2:
        return np.repeat(pixels[:, :, None], 3, axis=2)
    return np.ascontiguousarray(pixels[:, :, :3])


def _cut(encoded: bytes, first: int, last: int, end_chunk: int, end: int) -> PlainPng:
    """Pixels stand between `first` and `last`."""
    width, height = (int.from_bytes(encoded[start : start + 4], "big") for start in (16, 20))
    if first > HEADER_END or last < end_chunk:
        encoded = encoded[:HEADER_END] + encoded[first:last] + encoded[end_chunk:end]
    return PlainPng(height, width, encoded)


def _is_ignored(kind: bytes, chunk: bytes) -> bool:
    """Whether Pillow reads the file as if this chunk were not there."""
    content = chunk[8:-4]
    if kind == b"iCCP":
        # A name, and 0 for the only kind of compression. Where Pillow finds a profile too long, `without_notes` helps.
        name = content.find(b"\0")
        known = name >= 0 and content[name + 1 : name + 2] == b"\0"
    elif kind == b"tEXt":
        # Pillow keeps texts among settings of its own, whose names are small letters: "transparency", "interlace".
        known = content[:1].isupper() or content.startswith(b"date:")
    else:
        known = kind in UNREAD or SIZES.get(kind) == len(content)
    return known and crc32(chunk[4:-4]) == int.from_bytes(chunk[-4:], "big")


def _chunks(encoded: bytes) -> Iterator[bytes]:
    position = len(MAGIC)
    while position + FRAME <= len(encoded):
        end = position + FRAME + int.from_bytes(encoded[position : position + 4], "big")
        yield encoded[position:end]
        position = end
