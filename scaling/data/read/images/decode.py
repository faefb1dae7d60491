"""Encoded bytes -> uint8 RGB pixels, for every kind of image that real data sets hold.

Grayscale, palette, CMYK and 16-bit images become 8-bit RGB; of an animation the first frame counts; transparency
is dropped. Only JPEG, PNG and WebP are opened, whatever the member is called, and an image of too many pixels is
refused from its header, before anything is allocated for it. Pixels keep their stored order: an EXIF rotation is
not applied, as in the papers' pipelines.

Of a large JPEG only the rows and columns that a crop needs are decoded (see `jpeg_region`), and most PNGs are
decoded by libspng (see `png`). Whether an image is accepted, and its pixels, are the same function of its bytes for
every crop.
"""

import io
from collections.abc import Callable

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from scaling.data.read.images import png
from scaling.data.read.images.jpeg_region import (
    MAX_SHARE,
    MIN_PIXELS,
    Box,
    count_scans,
    decode_region,
    find_scan,
    load_library,
)

Pixels = NDArray[np.uint8]
"""(height, width, 3), RGB."""

Crop = Callable[[int, int], Box]
"""Which pixels of an image of (height, width) are needed."""

FORMATS = ("JPEG", "PNG", "WEBP")

JPEG_MAGIC = b"\xff\xd8\xff"

MAX_PIXELS = 50_000_000
"""Five times a good camera's image; decoding one takes up to about 600 MB."""

MAX_SCANS = 100
"""Of a progressive JPEG; encoders write about ten."""

MAX_SCAN_PIXELS = 1_000_000_000
"""Pixels times scans of a JPEG, each of which visits all pixels; a few seconds."""

PLAIN_COLOURS = ("YCbCr", "Gray")
"""simplejpeg's names of what all decoders of JPEG turn into the same RGB."""


class DecodeError(ValueError):
    """The image cannot be decoded; the text says why."""


def decode_rgb(encoded: bytes, crop: Crop | None = None) -> Pixels:
    """Pixels of an encoded image, or of the crop of it; DecodeError when it is broken or refused."""
    if not encoded:
        raise DecodeError("it has no bytes")
    if encoded[:3] == JPEG_MAGIC:
        try:
            height, width, colours, _ = simplejpeg.decode_jpeg_header(encoded)
        except ValueError:
            pixels = _decode_with_pillow(encoded)
        else:
            _check_size(width, height)
            if crop is not None and width * height >= MIN_PIXELS and colours in PLAIN_COLOURS:
                part = _decode_part(encoded, height, width, crop(height, width))
                if part is not None:
                    return part
            _check_scans(count_scans(encoded), width * height)
            pixels = _decode_jpeg(encoded, colours)
    elif encoded.startswith(png.MAGIC):
        pixels = _decode_png(encoded)
    else:
        pixels = _decode_with_pillow(encoded)
    return pixels if crop is None else crop(*pixels.shape[:2]).of(pixels)


def _decode_part(encoded: bytes, height: int, width: int, box: Box) -> Pixels | None:
    """The crop of a JPEG's pixels; None when the image is to be decoded in full."""
    if box.height * box.width > MAX_SHARE * height * width or load_library() is None:
        return None
    scan = find_scan(encoded)
    if scan is None:
        return None
    _check_scans(1 + count_scans(encoded[: scan.offset]), width * height)
    return decode_region(encoded, scan, box)


def _decode_jpeg(encoded: bytes, colours: str) -> Pixels:
    if colours != "CMYK":
        try:
            return simplejpeg.decode_jpeg(encoded)
        except ValueError:
            # libjpeg warned of something.
            if colours in PLAIN_COLOURS and find_scan(encoded) is not None:
                return _decode_whole(encoded)
    # Pillow knows which of libjpeg's warnings leave the image whole.
    return _decode_with_pillow(encoded)


def _decode_whole(encoded: bytes) -> Pixels:
    """In a whole file, none of libjpeg's warnings is a reason to refuse it."""
    try:
        return simplejpeg.decode_jpeg(encoded, strict=False)
    except ValueError as error:
        raise DecodeError(f"{type(error).__name__}: {error}") from error


def _decode_png(encoded: bytes) -> Pixels:
    _check_chunks(encoded)
    plain = png.find_plain(encoded)
    if plain is not None:
        _check_size(plain.width, plain.height)
        pixels = png.decode_plain(plain)
        if pixels is not None:
            return pixels
    return _decode_with_pillow(encoded)


def _decode_with_pillow(encoded: bytes) -> Pixels:
    try:
        with Image.open(io.BytesIO(encoded), formats=FORMATS) as image:
            _check_size(*image.size)
            if image.mode.startswith("I"):
                # 16 bits a pixel: Pillow's own conversion to RGB would clip instead of scale.
                gray = (np.asarray(image) >> 8).astype(np.uint8)
                return np.repeat(gray[:, :, None], 3, axis=2)
            return np.array(image if image.mode == "RGB" else image.convert("RGB"))
    except DecodeError:
        raise
    except ValueError as error:
        shorter = png.without_notes(encoded)
        if len(shorter) < len(encoded):
            # Pillow refuses long ones.
            return _decode_with_pillow(shorter)
        raise DecodeError(f"{type(error).__name__}: {error}") from error
    except Exception as error:  # Pillow raises many types for broken images: OSError, SyntaxError, struct.error …
        raise DecodeError(f"{type(error).__name__}: {error}") from error


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise DecodeError(f"{width} x {height} pixels are above the limit of {MAX_PIXELS:,}")


def _check_scans(num_scans: int, num_pixels: int) -> None:
    """Refuse a JPEG whose decoding would take minutes."""
    if num_scans > MAX_SCANS or num_scans * num_pixels > MAX_SCAN_PIXELS:
        raise DecodeError(
            f"{num_scans} scans of {num_pixels:,} pixels are above the limits of {MAX_SCANS} scans and "
            f"{MAX_SCAN_PIXELS:,} pixels in all of them"
        )


def _check_chunks(encoded: bytes) -> None:
    """Refuse a PNG of so many chunks that reading their heads takes seconds."""
    if png.has_too_many_chunks(encoded):
        raise DecodeError(f"a PNG of more than {png.MAX_CHUNKS:,} chunks is above the limit")
