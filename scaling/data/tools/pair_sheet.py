"""A sheet of image pairs side by side, to judge by eye whether they are duplicates."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw

from scaling.data.read.decode import DecodeError, decode_rgb
from scaling.data.tools.contact_sheet import thumbnail

TILE = 112
CAPTION = 28
PAIR_GAP = 14
COLUMNS = 4
MAX_PAIRS = 48


def spread_over(count: int) -> list[int]:
    """At most MAX_PAIRS of `count` positions, evenly spread, first and last among them."""
    if count <= MAX_PAIRS:
        return list(range(count))
    return sorted({round(i * (count - 1) / (MAX_PAIRS - 1)) for i in range(MAX_PAIRS)})


def draw_pair_sheet(pairs: Sequence[tuple[bytes, bytes, str]], out: Path) -> None:
    """Write a PNG of pairs of encoded images with a caption of two lines each."""
    columns = min(COLUMNS, len(pairs))
    width, height = 2 * TILE + PAIR_GAP, TILE + CAPTION
    sheet = Image.new("RGB", (columns * width, -(-len(pairs) // COLUMNS) * height), "white")
    pen = ImageDraw.Draw(sheet)
    for place, (one, other, caption) in enumerate(pairs):
        left, top = place % COLUMNS * width, place // COLUMNS * height
        for side, encoded in enumerate((one, other)):
            sheet.paste(_thumbnail(encoded), (left + side * TILE + 2, top + 2))
        pen.multiline_text((left + 4, top + TILE), caption, fill="black", spacing=1)
    sheet.save(out)


def _thumbnail(encoded: bytes) -> Image.Image:
    try:
        return thumbnail(decode_rgb(encoded), TILE - 4)
    except DecodeError:
        return Image.new("RGB", (TILE - 4, TILE - 4), "lightgrey")
