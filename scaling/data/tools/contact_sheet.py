"""A sheet of sample images with their class names."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from scaling.data.read.decode import Pixels
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
