"""JPEGs of every kind that is decoded in parts, and every kind of damage that files suffer."""

import io
from collections.abc import Callable

import numpy as np
import simplejpeg
from PIL import Image

HEIGHT, WIDTH = 253, 187

Damage = Callable[[bytes, int, int], bytes]
"""Of a file, at an offset, with 16 random bits."""


def photograph() -> np.ndarray:
    """Noise with structure, HEIGHT x WIDTH."""
    random = np.random.default_rng(3)
    coarse = random.integers(0, 256, (27, 22, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)).astype(int)
    return np.clip(smooth + random.normal(0, 20, smooth.shape), 0, 255).astype(np.uint8)


def jpeg(mode: str = "RGB", **options: object) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(photograph()).convert(mode).save(stream, "JPEG", **{"quality": 88, **options})
    return stream.getvalue()


WHOLE = {
    "4:4:4": jpeg(subsampling=0),
    "4:2:2": jpeg(subsampling=1),
    "4:2:0": jpeg(subsampling=2),
    "4:4:0": simplejpeg.encode_jpeg(photograph(), colorsubsampling="440"),
    "4:1:1": simplejpeg.encode_jpeg(photograph(), colorsubsampling="411"),
    "grey": jpeg("L"),
    "tables of its own": jpeg(optimize=True),
    "restarts in each row": jpeg(restart_marker_rows=1),
    "restarts in a row": jpeg(restart_marker_blocks=5, subsampling=0),
    "thumbnail and comment": jpeg(exif=b"Exif\0\0" + jpeg(quality=20)[:30_000], comment=b"a comment"),
    "turned": jpeg(exif=b"Exif\0\0MM\0*\0\0\0\x08\0\1\x01\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0"),
}

NOT_WHOLE = {
    "progressive": jpeg(progressive=True),
    "CMYK": jpeg("CMYK"),
    "cut off": jpeg()[:-200],
    "no end": jpeg()[:-2],
    "more after the end": jpeg() + b"\0",
    "two images": jpeg() * 2,
}


def scan_offset(encoded: bytes) -> int:
    """Of the last scan's marker."""
    return encoded.rindex(b"\xff\xda")


def _segments(encoded: bytes) -> list[tuple[int, int]]:
    position, found = 2, []
    while position + 4 < len(encoded) and encoded[position + 1] != 0xDA and len(found) < 20:
        end = position + 2 + int.from_bytes(encoded[position + 2 : position + 4], "big")
        found.append((position, end))
        position = end
    return found


def _drop_segment(data: bytes, at: int, bits: int) -> bytes:
    start, end = _segments(data)[bits % len(_segments(data))]
    return data[:start] + data[end:]


def _repeat_segment(data: bytes, at: int, bits: int) -> bytes:
    start, end = _segments(data)[bits % len(_segments(data))]
    return data[:end] + data[start:]


def _unstuff(data: bytes, at: int, bits: int) -> bytes:
    found = data.find(b"\xff\0", at)
    return data if found < 0 else data[: found + 1] + data[found + 2 :]


def _with(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at + len(new) :]


def _in_header(data: bytes, bits: int) -> int:
    return 2 + bits % scan_offset(data)


DAMAGES: dict[str, Damage] = {
    "a bit flipped": lambda data, at, bits: _with(data, at, bytes([data[at] ^ 1 << bits % 8])),
    "bits flipped all over": lambda data, at, bits: (
        data[:at] + bytes(b ^ (i % 97 == bits % 97) for i, b in enumerate(data[at:-2])) + data[-2:]
    ),
    "zeros": lambda data, at, bits: _with(data, at, bytes(min(bits % 5000, len(data) - 2 - at))),
    "bytes put in": lambda data, at, bits: data[:at] + bits.to_bytes(2, "big") * (1 + bits % 40) + data[at:],
    "bytes lost": lambda data, at, bits: data[:at] + data[min(at + 1 + bits % 3000, len(data) - 2) :],
    "other bytes": lambda data, at, bits: _with(data, at, bits.to_bytes(2, "big")),
    "a restart put in": lambda data, at, bits: data[:at] + bytes([0xFF, 0xD0 + bits % 8]) + data[at:],
    "a restart put over": lambda data, at, bits: _with(data, at, bytes([0xFF, 0xD0 + bits % 8])),
    "a marker": lambda data, at, bits: _with(data, at, bytes([0xFF, bits % 256])),
    "a second frame": lambda data, at, bits: _with(data, at, b"\xff\xc0\x00\x03"),
    "a second end": lambda data, at, bits: _with(data, at, b"\xff\xd9"),
    "a stuffed zero lost": _unstuff,
    "cut off": lambda data, at, bits: data[:at],
    "cut off, with an end": lambda data, at, bits: data[:at] + b"\xff\xd9",
    "more after the end": lambda data, at, bits: data + bytes(1 + bits % 50),
    "a second scan": lambda data, at, bits: data[:-2] + data[scan_offset(data) :][:300] + data[-2:],
    "a bit flipped in the header": lambda data, at, bits: _with(
        data, _in_header(data, bits), bytes([data[_in_header(data, bits)] ^ 1 << at % 8])
    ),
    "another byte in the header": lambda data, at, bits: _with(data, _in_header(data, bits), bytes([at % 256])),
    "a segment lost": _drop_segment,
    "a segment twice": _repeat_segment,
}
