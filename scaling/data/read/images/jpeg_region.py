"""Decoding only the rows and columns of a JPEG that a crop needs, with the pixels that decoding all of it gives.

libjpeg-turbo passes over the rows above a crop without transforming them, stops below it, and transforms only the
blocks of its columns. nvImageCodec's CPU decoder offers this; where that library is missing, images are decoded in
full. It writes libjpeg's warnings of a damaged image to stderr.

Whether an image is accepted must not hang on the crop, nor on what is remembered: two trainings of one run could part.
`find_scan` therefore tells from all bytes of a file whether it is *whole*: headers as the standard has them, one scan,
and an end. In the scan of such a file libjpeg may meet damage that it warns of, but none that it refuses, so that
decoding a part and decoding all of it accept the same bytes, with the same pixels in the part. Other files are decoded
in full.
"""

import importlib.util
import os
import tempfile
import threading
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

START_OF_FRAME = (0xC0, 0xC1)
"""Sequential with Huffman codes; not progressive, not lossless, not arithmetic."""

HUFFMAN_TABLES, START_OF_SCAN = 0xC4, 0xDA

TABLES = (HUFFMAN_TABLES, 0xDB, 0xDD)
"""Huffman and quantization tables, restart interval."""

COLOUR_NOTES = (0xE0, 0xEE)
"""JFIF and Adobe: they say which colours the components are."""

TEXTS = (*range(0xE0, 0xF0), 0xFE)
"""Application segments and comments."""

PLACED_IN_SCAN = frozenset((0, *range(0xD0, 0xD8)))
"""What may follow 0xFF in compressed data: nothing but that 0xFF itself, or a restart."""

MAX_DC_CATEGORY = 11
"""Of 8-bit images. Differences of more bits add up to what libjpeg refuses, at a row that a crop may not reach."""

END_OF_IMAGE = b"\xff\xd9"

MIN_PIXELS = 40_000
"""Of an image; in a smaller one, what is saved does not pay for finding the parts of the file."""

MIN_WIDTH = 16
"""Of a part, pixels; libjpeg interpolates the colours of narrower ones (of 2 at most) in another way."""

MAX_SHARE = 0.65
"""Of an image's pixels; a crop of more is decoded sooner with the whole image."""


SMALL_BYTES = 4096
"""Fewer than these, Python searches in less time than NumPy."""


class Box(NamedTuple):
    """A crop, in pixels of the image."""

    top: int
    left: int
    height: int
    width: int

    def of(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The crop of all pixels (height, width, ...), without a copy."""
        return pixels[self.top : self.top + self.height, self.left : self.left + self.width]


class Scan(NamedTuple):
    """Where the compressed data of a whole JPEG is."""

    offset: int
    """Of the marker of its only scan, bytes."""
    segments: tuple[tuple[int, int], ...]
    """Start and end of what stands before it and decides about pixels; empty when that is everything."""


def find_marks(encoded: bytes, start: int = 0) -> NDArray[np.uint8]:
    """The bytes that follow each 0xFF from `start` on: in compressed data 0, or the number of a marker."""
    values = np.frombuffer(encoded, dtype=np.uint8, offset=start)
    return values[1:].take(np.flatnonzero(values[:-1] == 0xFF))


def count_scans(encoded: bytes) -> int:
    """Markers of scans, in thumbnails too. In compressed data 0xFF is never followed by 0xDA, so that they can be
    counted without parsing; what metadata add by chance is little."""
    if len(encoded) < SMALL_BYTES:
        return encoded.count(bytes((0xFF, START_OF_SCAN)))
    return int(np.count_nonzero(find_marks(encoded) == START_OF_SCAN))


def find_scan(encoded: bytes) -> Scan | None:
    """The scan of a whole JPEG of 8 bits, gray or of three components; None for every other file."""
    if not encoded.endswith(END_OF_IMAGE):
        return None
    position, size = 2, len(encoded)
    components, dc_tables, ac_tables = 0, set[int](), set[int]()
    segments, has_texts = [(0, 2)], False
    while position + 10 < size and encoded[position] == 0xFF:
        marker = encoded[position + 1]
        end = position + 2 + (encoded[position + 2] << 8 | encoded[position + 3])
        if end > size:
            return None
        if marker == START_OF_SCAN:
            selectors = encoded[position + 6 : position + 5 + 2 * components : 2]
            if (
                components not in (1, 3)
                or encoded[position + 4] != components
                or end != position + 8 + 2 * components
                or not all(both >> 4 in dc_tables and both & 15 in ac_tables for both in selectors)
                or not _ends_once(encoded, end)
            ):
                return None
            return Scan(position, tuple(segments) if has_texts else ())
        if marker in START_OF_FRAME:
            if components or encoded[position + 4] != 8:
                return None
            components = encoded[position + 9]
        elif marker == HUFFMAN_TABLES:
            if not _note_huffman_tables(encoded[position + 4 : end], dc_tables, ac_tables):
                return None
        elif marker not in TABLES and marker not in TEXTS:
            return None
        if marker not in TEXTS or marker in COLOUR_NOTES:
            segments.append((position, end))
        else:
            has_texts = True
        position = end
    return None


def _ends_once(encoded: bytes, start: int) -> bool:
    """Whether compressed data, up to the end of the file, hold no marker but restarts and the last one."""
    others = set(find_marks(encoded, start)[:-1].tobytes())
    return others <= PLACED_IN_SCAN


def _note_huffman_tables(body: bytes, dc_tables: set[int], ac_tables: set[int]) -> bool:
    """Adds the numbers of a segment's tables; False where one is not as the standard has it."""
    position = 0
    while position + 17 <= len(body):
        kind, number = body[position] >> 4, body[position] & 15
        end = position + 17 + sum(body[position + 1 : position + 17])
        symbols = body[position + 17 : end]
        if kind > 1 or number > 3 or end > len(body) or not symbols:
            return False
        if kind == 0 and max(symbols) > MAX_DC_CATEGORY:
            return False
        (ac_tables if kind else dc_tables).add(number)
        position = end
    return position == len(body)


def decode_region(encoded: bytes, scan: Scan, box: Box) -> NDArray[np.uint8] | None:
    """RGB pixels (box.height, box.width, 3) of a whole JPEG; None where the decoder is missing, does not know this
    kind, or would make other pixels."""
    if box.width < MIN_WIDTH:
        return None
    if not hasattr(_of_thread, "decoder"):
        library = load_library()
        _of_thread.decoder = None if library is None else _Decoder(library)
    decoder: _Decoder | None = _of_thread.decoder
    return None if decoder is None else decoder.decode(encoded, scan, box)


class _Decoder:
    """One thread's: it decodes in the thread that asks, and holds no lock of the interpreter meanwhile."""

    def __init__(self, library: ModuleType) -> None:
        self._library = library
        self._decoder = library.Decoder(
            device_id=library.NVIMGCODEC_DEVICE_CPU_ONLY,
            max_num_cpu_threads=1,
            backends=[library.Backend(library.CPU_ONLY)],
        )
        self._parameters = library.DecodeParams(apply_exif_orientation=False, color_spec=library.SRGB)

    def decode(self, encoded: bytes, scan: Scan, box: Box) -> NDArray[np.uint8] | None:
        # Texts are left out: the library reads some of them, and they are of no matter to the pixels.
        if scan.segments:
            view = memoryview(encoded)
            encoded = b"".join([*(view[start:end] for start, end in scan.segments), view[scan.offset :]])
        region = self._library.Region(box.top, box.left, box.top + box.height, box.left + box.width)
        try:
            stream = self._library.CodeStream(encoded).get_sub_code_stream(region=region)
            image = self._decoder.decode(stream, params=self._parameters)
        except (RuntimeError, ValueError):
            return None
        if image is None:
            return None
        # Not `np.asarray`: it asks for `__array_interface__`, of which version 0.9 leaks 32 bytes each time.
        pixels: NDArray[np.uint8] = image.__array__()
        return pixels if pixels.shape[2] == 3 else np.repeat(pixels, 3, axis=2)


_of_thread = threading.local()
_loading = threading.Lock()


def load_library() -> ModuleType | None:
    """nvImageCodec with its CPU decoder of JPEG and nothing else; None where it is missing."""
    with _loading:
        return _load_library()


@cache
def _load_library() -> ModuleType | None:
    try:
        spec = importlib.util.find_spec("nvidia.nvimgcodec")
    except ModuleNotFoundError:
        return None
    if spec is None or spec.origin is None:
        return None
    # By default it loads decoders of other formats and for GPUs as well, and complains about the libraries that they
    # lack. It reads these settings while it is imported, and has its decoders in memory afterwards.
    with tempfile.TemporaryDirectory() as folder:
        for path in Path(spec.origin).parent.glob("extensions/libjpeg_turbo_ext.so*"):
            Path(folder, path.name).symlink_to(path)
        settings = {"NVIMGCODEC_EXTENSIONS_PATH": folder, "PYNVIMGCODEC_VERBOSITY": "0"}
        before = {name: os.environ.get(name) for name in settings}
        os.environ.update(settings)
        try:
            from nvidia import nvimgcodec
        except ImportError:
            return None
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value
    library: ModuleType = nvimgcodec
    return library
