"""What commands print for people: numbers (300, 9.06M, 3 %, 41.2 ± 0.6, 3·10¹⁸, 1.3 PFLOP, 3 min 05 s), plain text
tables for stdout, in which nothing chokes a pipe or a terminal, cells of CSV that are no formulas, and
a progress line on stderr."""

import math
import re
import sys
import time
import unicodedata
from collections.abc import Sequence

from scaling.errors import printable

_FORMULA = re.compile(r"[=+\-@\t\r]")
_NUMERIC = re.compile(r"[-+]?[\d.,eE]*(?: (?:to|±) [-+]?[\d.,eE]+)?(?: \(\w+\))?")


def short_flops(value: float) -> str:
    """Floating-point operations with their usual prefixes: `1.3 PFLOP`, `565 EFLOP`."""
    for scale, prefix in ((1e21, "Z"), (1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G")):
        if value >= scale:
            return f"{value / scale:.3g} {prefix}FLOP"
    return f"{value / 1e6:.3g} MFLOP"


def short_time(seconds: float) -> str:
    """`42 s`, `3 min 05 s`, `7 h 20 min`, `12 d 4 h`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


_UNITS = {"images": "images", "device_hours": "device-hours"}
_SUPERSCRIPT = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")


def count_text(number: float) -> str:
    """A count with three significant digits: 300, 1k, 9.06M, 1.2B."""
    for unit, size in (("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size * (1 - 5e-4):
            return f"{_significant(number / size)}{unit}"
    return _significant(number)


def counted(number: int, noun: str) -> str:
    """`1 run`, `24 runs`, `1,000 runs`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def named(names: Sequence[str], most: int) -> str:
    """The first `most` of several names: `a, b and 3 more`."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def devices_text(device: object, precision: object, num_devices: float) -> str:
    """What runs were trained on, as device-hours must share it to be compared: `H100, bf16, 8 devices`."""
    return f"{device}, {precision}" + (f", {num_devices:g} devices" if num_devices > 1 else "")


def number_text(value: float) -> str:
    """As `count_text` from 1 to a trillion, 0.03 below, 3·10¹⁸ beyond."""
    if value <= 0 or not math.isfinite(value):
        return f"{value:g}"
    if value >= 1e12 or value < 1e-4:
        return power_text(value)
    return count_text(value) if value >= 1 else f"{value:.2g}"


def power_text(value: float, num_digits: int = 3) -> str:
    """3·10¹¹, as amounts of FLOPs are written; 9.999·10¹¹ rounds to 10¹²."""
    power = math.floor(math.log10(value) + 1e-9)
    if float(f"{value / 10.0**power:.{num_digits}g}") >= 10:
        power += 1
    digits = f"{value / 10.0**power:.{num_digits}g}"
    exponent = str(power).translate(_SUPERSCRIPT)
    return f"10{exponent}" if digits == "1" else f"{digits}·10{exponent}"


def cost_text(kind: str, value: float) -> str:
    """An amount of images, FLOPs, device-hours or images per second with its unit, by the name of its column."""
    if kind == "flops":
        return f"{power_text(value)} FLOPs"
    return f"{number_text(value)} {_UNITS.get(kind, 'images/s')}"


def range_text(low: int, high: int, unit: str) -> str:
    """`8 runs`, `1 run`, `1 to 3 runs`."""
    count = f"{low}" if low == high else f"{low} to {high}"
    return f"{count} {unit}{'' if high == 1 else 's'}"


def percent_text(fraction: float) -> str:
    return f"{_significant(100 * fraction)} %"


def share_text(share: float) -> str:
    """A small relative difference: 0.02 %, below 0.01 %."""
    return f"{_significant(round(100 * share, 2))} %" if share >= 5e-5 else "below 0.01 %"


def spread_text(mean: float, sd: float, digits: int = 1) -> str:
    """`41.2 ± 0.6`, or `41.2` when there is no spread to tell."""
    return f"{mean:.{digits}f}" if math.isnan(sd) else f"{mean:.{digits}f} ± {sd:.{digits}f}"


def chance_text(probability: float) -> str:
    """A probability with two decimals: 0.93, > 0.99, < 0.01; empty when it is unknown."""
    if math.isnan(probability):
        return ""
    if probability >= 0.995:
        return "> 0.99"
    return "< 0.01" if probability < 0.005 else f"{probability:.2f}"


def _significant(value: float) -> str:
    return f"{float(f'{value:.3g}'):g}"


def num_columns(text: str) -> int:
    """Columns of a terminal that a text takes: wide letters, as of Chinese, take two, and combining marks none."""
    if text.isascii():
        return len(text)
    marks = sum(unicodedata.category(letter) in ("Mn", "Me", "Cf") for letter in text)
    return len(text) - marks + sum(unicodedata.east_asian_width(letter) in "WF" for letter in text)


def padded(text: str, width: int, *, to_the_right: bool = False) -> str:
    """The text with blanks up to `width` columns of a terminal."""
    blanks = " " * (width - num_columns(text))
    return blanks + text if to_the_right else text + blanks


def plain_table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns separated by two spaces; a column whose every cell looks like a number is right-aligned."""
    rows = [[printable(cell) for cell in row] for row in rows]
    columns = list(zip(headers, *rows, strict=True))
    widths = [max(map(num_columns, column)) for column in columns]
    numeric = [all(cell[:1].isdigit() or cell[:1] in "-+~" for cell in column[1:]) for column in columns]

    def line(cells: Sequence[str]) -> str:
        parts = [
            padded(cell, width, to_the_right=right) for cell, width, right in zip(cells, widths, numeric, strict=True)
        ]
        return "  ".join(parts).rstrip()

    return "\n".join([line(headers), line(["-" * width for width in widths]), *(line(row) for row in rows)])


def defused(text: str) -> str:
    """A cell of CSV, with an apostrophe in front where a spreadsheet would take it for a formula."""
    return f"'{text}" if _FORMULA.match(text) and not _NUMERIC.fullmatch(text) else text


REDRAW_SECONDS = 0.2
"""Between two drawings of a line on a terminal."""


class ProgressLine:
    """A line that is rewritten as work gets done: units done, samples, samples per second.

    Where stderr is no terminal, one line at the end.
    """

    def __init__(self, unit: str) -> None:
        self._unit = unit
        self._started = time.monotonic()
        self._drawn = 0.0

    def __call__(self, num_done: int, total: int, num_samples: int) -> None:
        now = time.monotonic()
        is_last = num_done == total
        if not is_last and (not sys.stderr.isatty() or now - self._drawn < REDRAW_SECONDS):
            return
        self._drawn = now
        rate = num_samples / max(now - self._started, 1e-9)
        line = f"{num_done:,}/{total:,} {self._unit}, {rate:,.0f} samples/s"
        print(f"\r{line}" if sys.stderr.isatty() else line, end="\n" if is_last else "", file=sys.stderr, flush=True)
