"""Encoded bytes -> uint8 RGB pixels, for every kind of image that real data sets hold.

Grayscale, palette, CMYK and 16-bit images become 8-bit RGB; of an animation the first frame counts; transparency
is dropped. Only JPEG, PNG and WebP are opened, whatever the member is called, and an image of too many pixels is
refused from its header, before anything is allocated for it. Pixels keep their stored order: an EXIF rotation is
not applied, as in the papers' pipelines.

Images are decoded whole. A decoder that is told of fewer rows in a JPEG's header makes the rows that a crop needs with
the same pixels in a tenth less time, but damage below them would then be met by some visits and not by others,
depending on what is remembered, and two trainings of one run could part.
"""

import io

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]
"""(height, width, 3), RGB."""

FORMATS = ("JPEG", "PNG", "WEBP")

JPEG_MAGIC = b"\xff\xd8\xff"

MAX_PIXELS = 50_000_000
"""Five times a good camera's image; decoding one takes up to about 600 MB."""

MAX_SCANS = 100
"""Of a progressive JPEG; encoders write about ten."""

MAX_SCAN_PIXELS = 1_000_000_000
"""Pixels times scans of a JPEG, each of which visits all pixels; a few seconds."""

START_OF_SCAN = b"\xff\xda"

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"

PNG_TEXT_CHUNKS = (b"tEXt", b"zTXt", b"iTXt")


class DecodeError(ValueError):
    """The image cannot be decoded; the text says why."""


def decode_rgb(encoded: bytes) -> Pixels:
    """Pixels of an encoded image; DecodeError when it is broken or refused."""
    if encoded[:3] == JPEG_MAGIC:
        try:
            height, width, colours, _ = simplejpeg.decode_jpeg_header(encoded)
            _check_size(width, height)
            _check_scans(encoded, width * height)
            if colours != "CMYK":
                return simplejpeg.decode_jpeg(encoded)
        except DecodeError:
            raise
        except ValueError:
            # libjpeg warned of something; Pillow knows which of its warnings leave the image whole.
            pass
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
        shorter = _without_text(encoded)
        if len(shorter) < len(encoded):
            # Pillow refuses long texts, which have nothing to do with the pixels.
            return _decode_with_pillow(shorter)
        raise DecodeError(f"{type(error).__name__}: {error}") from error
    except Exception as error:  # Pillow raises many types for broken images: OSError, SyntaxError, struct.error …
        raise DecodeError(f"{type(error).__name__}: {error}") from error


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise DecodeError(f"{width} x {height} pixels are above the limit of {MAX_PIXELS:,}")


def _check_scans(encoded: bytes, num_pixels: int) -> None:
    """Refuse a JPEG whose decoding would take minutes. In compressed data 0xFF is never followed by 0xDA, so that
    markers can be counted without parsing; what metadata adds by chance is little."""
    num_scans = encoded.count(START_OF_SCAN)
    if num_scans > MAX_SCANS or num_scans * num_pixels > MAX_SCAN_PIXELS:
        raise DecodeError(
            f"{num_scans} scans of {num_pixels:,} pixels are above the limits of {MAX_SCANS} scans and "
            f"{MAX_SCAN_PIXELS:,} pixels in all of them"
        )


def _without_text(encoded: bytes) -> bytes:
    """A PNG without its text chunks; anything else as it is."""
    if not encoded.startswith(PNG_MAGIC):
        return encoded
    kept, position = [PNG_MAGIC], len(PNG_MAGIC)
    while position + 12 <= len(encoded):
        end = position + 12 + int.from_bytes(encoded[position : position + 4], "big")
        if encoded[position + 4 : position + 8] not in PNG_TEXT_CHUNKS:
            kept.append(encoded[position:end])
        position = end
    return b"".join(kept)
