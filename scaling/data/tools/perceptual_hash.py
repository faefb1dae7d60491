"""A 64-bit fingerprint of what an image looks like: near-duplicates differ in few bits.

The signs of the 8 x 8 lowest frequencies of the 32 x 32 grey image, each against their median (pHash, as in the
`imagehash` library, bit for bit). Two unrelated images differ in about 32 bits. Measured on 400 photographs of
flowers, share found at a distance of 6, 8 and 10 bits: JPEG quality 30, halved or squashed to 64 x 64: 100 %;
brightened by 15 %: 99, 100, 100 %; 2 % cut off every side: 89, 98, 100 %; 4 %: 31, 53, 82 %. Of the 79,800 pairs of
different photographs none was within 10 bits.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import fft

from scaling.data.read.images.decode import Pixels

HASH_SIDE = 8
IMAGE_SIDE = 32

FLAT = 1.0
"""Grey levels: an image whose standard deviation is below has no look that could be told from another's."""


def perceptual_hash(pixels: Pixels) -> int | None:
    """The fingerprint of an image (H, W, 3) uint8; None for one of a single colour."""
    grey = Image.fromarray(pixels).convert("L").resize((IMAGE_SIDE, IMAGE_SIDE), Image.Resampling.LANCZOS)
    values = np.asarray(grey)
    if values.std() < FLAT:
        return None
    low = fft.dct(fft.dct(values.astype(np.float64), axis=0), axis=1)[:HASH_SIDE, :HASH_SIDE]
    bits = (low > np.median(low)).ravel()
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def near_pairs(
    one: NDArray[np.uint64], other: NDArray[np.uint64], distance: int, at_once: int = 4_000_000
) -> list[tuple[int, int, int]]:
    """(i, j, bits that differ) of all `one[i]` and `other[j]` that differ in at most `distance` bits.

    Every pair is compared, `at_once` at a time; a core compares some hundred million a second.
    """
    found = []
    rows = max(1, at_once // max(1, len(other)))
    for start in range(0, len(one), rows):
        bits = np.bitwise_count(one[start : start + rows, None] ^ other[None, :])
        for i, j in np.argwhere(bits <= distance).tolist():
            found.append((start + i, j, int(bits[i, j])))
    return found
