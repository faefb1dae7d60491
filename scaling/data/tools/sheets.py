"""Sheets of images to look at: samples with their class names, and pairs side by side, to judge whether they are
duplicates."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from scaling.data.read.images.decode import DecodeError, Pixels, decode_rgb
from scaling.data.read.pixels import PixelSource

TILE = 128
CAPTION = 26
COLUMNS = 8
CAPTION_LETTERS = 20


def draw_contact_sheet(source: PixelSource, out: Path, *, num: int, seed: int) -> None:
    """Write a PNG with `num` samples drawn evenly over the shards; at most two class names below each."""
    manifest = source.manifest
    ends = np.cumsum(manifest.shard_samples)
    chosen = np.random.default_rng(seed).choice(manifest.num_samples, min(num, manifest.num_samples), replace=False)
    rows = -(-len(chosen) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * TILE, rows * (TILE + CAPTION)), "white")
    pen = ImageDraw.Draw(sheet)
    for place, sample in enumerate(sorted(chosen.tolist())):
        shard = int(np.searchsorted(ends, sample, side="right"))
        pixels, labels = source.get(shard, sample - int(ends[shard] - manifest.shard_samples[shard]))
        left, top = place % COLUMNS * TILE, place // COLUMNS * (TILE + CAPTION)
        sheet.paste(thumbnail(pixels, TILE - 4), (left + 2, top + 2))
        names = "\n".join(manifest.classes[label][:CAPTION_LETTERS] for label in labels[:2])
        pen.multiline_text((left + 4, top + TILE), names, fill="black", spacing=1)
    out.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(out)


def thumbnail(pixels: Pixels, side: int) -> Image.Image:
    """An image (H, W, 3) whose longer side has `side` pixels."""
    scale = side / max(pixels.shape[:2])
    height, width = (max(1, round(length * scale)) for length in pixels.shape[:2])
    return Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR)


PAIR_TILE = 112
PAIR_CAPTION = 28
PAIR_GAP = 14
PAIR_COLUMNS = 4
MAX_PAIRS = 48


def spread_over(count: int) -> list[int]:
    """At most MAX_PAIRS of `count` positions, evenly spread, first and last among them."""
    if count <= MAX_PAIRS:
        return list(range(count))
    return sorted({round(i * (count - 1) / (MAX_PAIRS - 1)) for i in range(MAX_PAIRS)})


def draw_pair_sheet(pairs: Sequence[tuple[bytes, bytes, str]], out: Path) -> None:
    """Write a PNG of pairs of encoded images with a caption of two lines each."""
    columns = min(PAIR_COLUMNS, len(pairs))
    width, height = 2 * PAIR_TILE + PAIR_GAP, PAIR_TILE + PAIR_CAPTION
    sheet = Image.new("RGB", (columns * width, -(-len(pairs) // PAIR_COLUMNS) * height), "white")
    pen = ImageDraw.Draw(sheet)
    for place, (one, other, caption) in enumerate(pairs):
        left, top = place % PAIR_COLUMNS * width, place // PAIR_COLUMNS * height
        for side, encoded in enumerate((one, other)):
            sheet.paste(_pair_thumbnail(encoded), (left + side * PAIR_TILE + 2, top + 2))
        pen.multiline_text((left + 4, top + PAIR_TILE), caption, fill="black", spacing=1)
    sheet.save(out)


def _pair_thumbnail(encoded: bytes) -> Image.Image:
    try:
        return thumbnail(decode_rgb(encoded), PAIR_TILE - 4)
    except DecodeError:
        return Image.new("RGB", (PAIR_TILE - 4, PAIR_TILE - 4), "lightgrey")
