"""Encoded bytes -> uint8 RGB pixels, for every kind of picture that real data sets hold.

Grayscale, palette, CMYK and 16-bit pictures become 8-bit RGB; of an animation the first frame counts; transparency
is dropped. Only JPEG, PNG and WebP are opened, whatever the member is called, and a picture of too many pixels is
refused from its header, before anything is allocated for it.
"""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

FORMATS = ("JPEG", "PNG", "WEBP")

MAX_PIXELS = 100_000_000
"""Ten times a good camera's picture; decoded it takes 300 MB."""


class DecodeError(ValueError):
    """The picture cannot be decoded; the text says why."""


def decode_rgb(encoded: bytes | memoryview) -> NDArray[np.uint8]:
    """Pixels (height, width, 3) of an encoded picture; DecodeError when it is broken or refused."""
    try:
        with Image.open(io.BytesIO(encoded), formats=FORMATS) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise DecodeError(f"{width} x {height} pixels are above the limit of {MAX_PIXELS:,}")
            if image.mode.startswith("I"):
                # 16 bits a pixel: Pillow's own conversion to RGB would clip instead of scale.
                gray = (np.asarray(image, dtype=np.int32) >> 8).astype(np.uint8)
                return np.repeat(gray[:, :, None], 3, axis=2)
            return np.asarray(image.convert("RGB"))
    except DecodeError:
        raise
    except Exception as error:  # Pillow raises many types for broken pictures: OSError, SyntaxError, struct.error …
        raise DecodeError(f"{type(error).__name__}: {error}") from error
