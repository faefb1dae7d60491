"""Encoded bytes -> uint8 RGB pixels, for every kind of image that real data sets hold.

Grayscale, palette, CMYK and 16-bit images become 8-bit RGB; of an animation the first frame counts; transparency
is dropped. Only JPEG, PNG and WebP are opened, whatever the member is called, and an image of too many pixels is
refused from its header, before anything is allocated for it. Pixels are stored as they lie: an EXIF rotation is
not applied, as in the papers' pipelines.
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

MAX_PIXELS = 100_000_000
"""Ten times a good camera's image; decoded it takes 300 MB."""


class DecodeError(ValueError):
    """The image cannot be decoded; the text says why."""


def decode_rgb(encoded: bytes) -> Pixels:
    """Pixels of an encoded image; DecodeError when it is broken or refused."""
    if encoded[:3] == JPEG_MAGIC:
        try:
            height, width, colours, _ = simplejpeg.decode_jpeg_header(encoded)
            _check_size(width, height)
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
                gray = (np.asarray(image, dtype=np.int32) >> 8).astype(np.uint8)
                return np.repeat(gray[:, :, None], 3, axis=2)
            return np.array(image.convert("RGB"))
    except DecodeError:
        raise
    except Exception as error:  # Pillow raises many types for broken images: OSError, SyntaxError, struct.error …
        raise DecodeError(f"{type(error).__name__}: {error}") from error


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise DecodeError(f"{width} x {height} pixels are above the limit of {MAX_PIXELS:,}")
