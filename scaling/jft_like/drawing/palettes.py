"""Colour palettes: the two colours of a class, seen under neutral light.

A palette is an unordered pair of hues: which of them is the base and which the accent differs from image to
image. Three pairs have the same grey mean and the others come in groups of near means, so a mean colour (what a
linear classifier of pixels sees) says little about the palette.
"""

import numpy as np

HUES: dict[str, tuple[float, float, float]] = {
    "red": (0.88, 0.16, 0.14),
    "yellow": (0.90, 0.82, 0.16),
    "green": (0.16, 0.72, 0.20),
    "cyan": (0.16, 0.78, 0.84),
    "blue": (0.14, 0.22, 0.88),
    "pink": (0.90, 0.24, 0.82),
}

PALETTES: tuple[tuple[str, str], ...] = (
    ("red", "cyan"),
    ("green", "pink"),
    ("blue", "yellow"),
    ("red", "green"),
    ("green", "blue"),
    ("blue", "red"),
    ("yellow", "cyan"),
    ("cyan", "pink"),
    ("pink", "yellow"),
)

PALETTE_COLOURS = np.array([[HUES[first], HUES[second]] for first, second in PALETTES], np.float32)
"""Shape (palettes, 2, 3)."""
