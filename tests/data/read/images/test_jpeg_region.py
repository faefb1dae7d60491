"""Decoding the part of a JPEG that a crop needs, against decoding all of it and against Pillow, for whole and damaged
files."""

import io
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import simplejpeg
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from scaling.data.read.images import decode
from scaling.data.read.images.decode import DecodeError, decode_rgb
from scaling.data.read.images.jpeg_region import (
    MAX_SHARE,
    MIN_PIXELS,
    MIN_WIDTH,
    Box,
    decode_region,
    find_scan,
    load_library,
)
from tests.support.damaged_jpegs import DAMAGES, HEIGHT, NOT_WHOLE, WHOLE, WIDTH, scan_offset

needs_library = pytest.mark.skipif(load_library() is None, reason="nvImageCodec is not installed")

fractions = st.floats(0, 1, exclude_max=True)
crops = st.tuples(fractions, fractions, fractions, fractions)


def box_of(drawn: tuple[float, float, float, float], height: int, width: int) -> Box:
    top, left = int(drawn[0] * height), int(drawn[1] * width)
    return Box(top, left, 1 + int(drawn[2] * (height - top)), 1 + int(drawn[3] * (width - left)))


def outcome(encoded: bytes, drawn: tuple[float, float, float, float] | None = None) -> np.ndarray | str:
    """Pixels, or why there are none, without addresses of objects."""
    try:
        return decode_rgb(encoded, None if drawn is None else lambda height, width: box_of(drawn, height, width))
    except DecodeError as error:
        return re.sub(" at 0x[0-9a-f]+", "", str(error))


def check_parts(encoded: bytes, drawn: list[tuple[float, float, float, float]]) -> None:
    """The parts have the fate of the image, and its pixels."""
    whole = outcome(encoded)
    for numbers in drawn:
        part = outcome(encoded, numbers)
        if isinstance(whole, str) or isinstance(part, str):
            assert isinstance(part, str) and part == whole, numbers
        else:
            top, left, height, width = box_of(numbers, *whole.shape[:2])
            assert np.array_equal(part, whole[top : top + height, left : left + width]), numbers


@needs_library
@pytest.mark.parametrize("kind", WHOLE)
@settings(max_examples=40, deadline=None)
@given(drawn=crops)
def test_a_part_has_the_pixels_of_the_whole_image(kind: str, drawn: tuple[float, float, float, float]) -> None:
    """Those of simplejpeg and of Pillow, also at the edges of blocks, where colours are interpolated."""
    encoded, box = WHOLE[kind], box_of(drawn, HEIGHT, WIDTH)
    scan = find_scan(encoded)
    assert scan is not None
    part = decode_region(encoded, scan, box)
    assert (part is None) == (box.width < MIN_WIDTH)
    if part is None:
        return
    assert part.shape == (box.height, box.width, 3)
    rows, columns = slice(box.top, box.top + box.height), slice(box.left, box.left + box.width)
    assert np.array_equal(part, simplejpeg.decode_jpeg(encoded)[rows, columns])
    assert np.array_equal(part, np.asarray(Image.open(io.BytesIO(encoded)).convert("RGB"))[rows, columns])


@needs_library
def test_small_parts_of_large_images_are_decoded_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Box] = []
    monkeypatch.setattr(decode, "decode_region", lambda *given: (asked.append(given[2]), decode_region(*given))[1])
    assert HEIGHT * WIDTH >= MIN_PIXELS and 0.5 < MAX_SHARE < 0.9
    for box in (Box(0, 0, HEIGHT, WIDTH), Box(5, 5, HEIGHT // 2, WIDTH - 5), Box(0, 0, HEIGHT, int(0.9 * WIDTH))):
        assert decode_rgb(WHOLE["4:2:0"], lambda height, width, box=box: box).shape == (box.height, box.width, 3)
    assert asked == [Box(5, 5, HEIGHT // 2, WIDTH - 5)]


@pytest.mark.parametrize("kind", NOT_WHOLE)
def test_other_files_are_decoded_in_full(kind: str) -> None:
    assert find_scan(NOT_WHOLE[kind]) is None
    check_parts(NOT_WHOLE[kind], [(0, 0, 0.2, 0.2), (0.5, 0.5, 0.9, 0.2)])


def test_sums_that_libjpeg_refuses_cannot_be_reached() -> None:
    """A table of differences of more than 11 bits, with which the sum of a damaged image's may overflow."""
    encoded = bytearray(WHOLE["4:2:0"])
    table = encoded.index(b"\xff\xc4")
    assert encoded[table + 4] == 0 and find_scan(bytes(encoded)) is not None
    encoded[table + 5 + 16 + 11] = 12
    assert find_scan(bytes(encoded)) is None


@settings(max_examples=600, deadline=None)
@given(
    kind=st.sampled_from(sorted(WHOLE)),
    damages=st.lists(st.tuples(st.sampled_from(sorted(DAMAGES)), fractions, st.integers(0, 2**16 - 1)), max_size=2),
    drawn=st.lists(crops, min_size=1, max_size=3),
)
@example(kind="4:2:0", damages=[("cut off, with an end", 0.5, 0)], drawn=[(0, 0, 0.2, 0.2), (0.9, 0.2, 0.5, 0.5)])
@example(kind="grey", damages=[("a segment lost", 0.5, 1)], drawn=[(0, 0, 0.2, 0.2)])
def test_damage_is_met_alike_by_every_crop(
    kind: str, damages: list[tuple[str, float, int]], drawn: list[tuple[float, float, float, float]]
) -> None:
    encoded = WHOLE[kind]
    for name, place, bits in damages:
        start = scan_offset(encoded) + 14 if b"\xff\xda" in encoded else 2
        assume(start < len(encoded) - 3)
        encoded = DAMAGES[name](encoded, start + int(place * (len(encoded) - 3 - start)), bits)
        assume(b"\xff\xda" in encoded)
    check_parts(encoded, drawn)
    if find_scan(encoded) is not None:
        # Pillow, which decides about all other damaged files, agrees about these.
        whole = outcome(encoded)
        assert isinstance(whole, str) or np.array_equal(whole, Image.open(io.BytesIO(encoded)).convert("RGB"))


def test_without_the_library_all_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = [(0.3, 0.2, 0.4, 0.5), (0.0, 0.0, 0.1, 0.1)]
    parts = [outcome(data, drawn) for data in WHOLE.values() for drawn in numbers]
    monkeypatch.setattr(decode, "load_library", lambda: None)
    alone = [outcome(data, drawn) for data in WHOLE.values() for drawn in numbers]
    assert all(np.array_equal(part, other) for part, other in zip(parts, alone, strict=True))


def test_threads_do_not_disturb_each_other() -> None:
    drawn = (0.3, 0.2, 0.4, 0.5)
    expected = [outcome(data, drawn) for data in WHOLE.values()]
    with ThreadPoolExecutor(8) as pool:
        for data, wanted in zip(WHOLE.values(), expected, strict=True):
            assert all(np.array_equal(part, wanted) for part in pool.map(outcome, [data] * 40, [drawn] * 40))


QUIET = """
import os, sys
from pathlib import Path
before, tasks = dict(os.environ), set(os.listdir("/proc/self/task"))
from scaling.data.read.images.decode import decode_rgb
from scaling.data.read.images.jpeg_region import Box
assert "nvidia" not in sys.modules
threads = set(os.listdir("/proc/self/task"))
decode_rgb(sys.stdin.buffer.read(), lambda height, width: Box(8, 8, 50, 50))
assert "nvidia.nvimgcodec" in sys.modules
assert dict(os.environ) == before
assert set(os.listdir("/proc/self/task")) == threads
print({line.split("/")[-1].strip() for line in Path("/proc/self/maps").read_text().splitlines() if ".so" in line})
"""


@needs_library
def test_the_library_is_loaded_when_needed_quietly_and_without_what_is_for_gpus() -> None:
    answer = subprocess.run(
        [sys.executable, "-c", QUIET], input=WHOLE["4:2:0"], capture_output=True, check=True, env=os.environ
    )
    assert answer.stderr == b""
    loaded = answer.stdout.decode()
    assert "libjpeg_turbo_ext" in loaded and not re.search("libcuda|libnvjpeg|libnvtiff|nvjpeg_ext|opencv_ext", loaded)
