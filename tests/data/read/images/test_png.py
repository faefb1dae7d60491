"""PNGs that libspng decodes have the fate and the pixels that Pillow gives them, damaged ones too."""

import io
import zlib
from itertools import pairwise
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from scaling.data.read.images import png
from scaling.data.read.images.decode import DecodeError, decode_rgb
from scaling.data.read.images.png import HEADER_END, MAGIC, find_plain

GRAY, RGB, RGBA = 0, 2, 6

CHANNELS = {GRAY: 1, RGB: 3, RGBA: 4}

WIDTH, HEIGHT = 13, 9


def chunk(kind: bytes, content: bytes = b"") -> bytes:
    return len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")


def head(colours: int, width: int = WIDTH, height: int = HEIGHT, bits: int = 8, interlaced: int = 0) -> bytes:
    sides = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    return MAGIC + chunk(b"IHDR", sides + bytes([bits, colours, 0, 0, interlaced]))


def rows(colours: int, seed: int = 0) -> bytes:
    """Every kind of filter, with noise."""
    row = WIDTH * CHANNELS[colours]
    noise = np.random.default_rng(seed).integers(0, 256, (HEIGHT, row), dtype=np.uint8)
    return b"".join(bytes([number % 5]) + line.tobytes() for number, line in enumerate(noise))


def plain(colours: int = RGB, before: bytes = b"", after: bytes = b"") -> bytes:
    pixels = chunk(b"IDAT", zlib.compress(rows(colours)))
    return head(colours) + before + pixels + after + chunk(b"IEND")


def damaged_sum(sound: bytes) -> bytes:
    """A chunk whose checksum is another one."""
    return sound[:-1] + bytes([sound[-1] ^ 1])


def saved(mode: str, **options: object) -> bytes:
    stream = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    Image.fromarray(noise).convert(mode).save(stream, "PNG", **options)
    return stream.getvalue()


def fate(encoded: bytes) -> np.ndarray | None:
    """Pixels, or None for a refused image."""
    try:
        return decode_rgb(encoded)
    except DecodeError:
        return None


def fate_by_pillow(encoded: bytes) -> np.ndarray | None:
    with patch.object(png, "find_plain", return_value=None):
        return fate(encoded)


def check_same_with_pillow(encoded: bytes) -> np.ndarray | None:
    pixels, expected = fate(encoded), fate_by_pillow(encoded)
    assert (pixels is None) == (expected is None)
    if pixels is not None and expected is not None:
        assert np.array_equal(pixels, expected) and pixels.shape == expected.shape
        assert pixels.flags.c_contiguous and pixels.flags.writeable
    return pixels


NAMED_PROFILE = chunk(b"iCCP", b"name\0\0" + zlib.compress(bytes(2_000_000)))

NOTES = {
    "gamma": chunk(b"gAMA", (100_000).to_bytes(4, "big")),
    "colours": chunk(b"cHRM", bytes(32)),
    "standard colours": chunk(b"sRGB", b"\0"),
    "resolution": chunk(b"pHYs", bytes(9)),
    "day": chunk(b"tIME", bytes(7)),
    "background": chunk(b"bKGD", bytes(6)),
    "significant bits": chunk(b"sBIT", bytes(4)),
    "camera": chunk(b"eXIf", b"anything"),
    "two profiles": 2 * NAMED_PROFILE,
    "texts": chunk(b"tEXt", b"Software\0a program") + chunk(b"tEXt", b"date:create\x002020"),
}


@pytest.mark.parametrize("colours", [GRAY, RGB, RGBA])
@pytest.mark.parametrize("name", ["nothing", *NOTES])
def test_plain_pngs_are_decoded_without_pillow(colours: int, name: str) -> None:
    note = NOTES.get(name, b"")
    for encoded in (plain(colours, before=note), plain(colours, after=note)):
        with patch.object(Image, "open", side_effect=AssertionError):
            assert fate(encoded) is not None
        check_same_with_pillow(encoded)


OTHERS = {
    "palette": saved("P"),
    "gray with alpha": saved("LA"),
    "one bit": saved("1"),
    "16 bits": saved("I;16"),
    "transparent colour": saved("RGB", transparency=(1, 2, 3)),
    "interlaced": head(GRAY, 1, 1, interlaced=1) + chunk(b"IDAT", zlib.compress(b"\0\7")) + chunk(b"IEND"),
    "animated": plain(before=chunk(b"acTL", bytes(7) + b"\1")),
    "setting of Pillow's": plain(GRAY, before=chunk(b"tEXt", b"transparency\0a text")),
    "damaged note": plain(before=damaged_sum(NOTES["gamma"])),
    "damaged note at the end": plain(after=damaged_sum(NOTES["gamma"])),
    "short note": plain(before=chunk(b"gAMA", b"\0")),
    "long note": plain(before=chunk(b"gAMA", bytes(9))),
    "profile without a name": plain(before=chunk(b"iCCP", b"name")),
    "profile of another kind": plain(before=chunk(b"iCCP", b"name\0\1")),
    "profile in nothing": plain(before=chunk(b"iCCP", b"name\0")),
    "pixels in two places": plain(after=NOTES["day"] + chunk(b"IDAT", b"")),
    "no pixels": head(RGB) + chunk(b"IEND"),
    "no end": plain()[:-12],
    "longer than the file": plain()[:-1],
    "header not first": MAGIC + NOTES["day"] + plain()[len(MAGIC) :],
    "two headers": plain(before=head(RGB)[len(MAGIC) :]),
    "nothing": MAGIC,
}


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.filterwarnings("ignore:Invalid APNG")
def test_other_pngs_are_for_pillow(name: str) -> None:
    assert find_plain(OTHERS[name]) is None
    check_same_with_pillow(OTHERS[name])


def pixels_in(*contents: bytes) -> bytes:
    return head(RGB) + b"".join(chunk(b"IDAT", content) for content in contents) + chunk(b"IEND")


COMPRESSED, WRONG_SUM = (zlib.compress(rows(RGB))[:-4] + sum for sum in (zlib.compress(rows(RGB))[-4:], b"\0\0\0\0"))

PIXELS = {
    "sound": (True, pixels_in(COMPRESSED)),
    "in three parts, one empty": (True, pixels_in(COMPRESSED[:50], b"", COMPRESSED[50:])),
    "more rows": (True, pixels_in(zlib.compress(rows(RGB) + bytes(500)))),
    "more bytes": (True, pixels_in(COMPRESSED + b"more")),
    "more parts": (True, pixels_in(COMPRESSED, b"more")),
    "checksum missing": (True, pixels_in(COMPRESSED[:-4])),
    "checksum wrong": (False, pixels_in(WRONG_SUM)),
    "checksum wrong, apart": (True, pixels_in(WRONG_SUM[:-4], WRONG_SUM[-4:])),
    "checksum of the part wrong": (True, head(RGB) + damaged_sum(chunk(b"IDAT", COMPRESSED)) + chunk(b"IEND")),
    "checksum of the header wrong": (False, damaged_sum(head(RGB)) + pixels_in(COMPRESSED)[HEADER_END:]),
    "checksum of the end wrong": (True, damaged_sum(pixels_in(COMPRESSED))),
    "bytes after the end": (True, pixels_in(COMPRESSED) + b"more"),
    "end of some length": (True, pixels_in(COMPRESSED)[:-12] + chunk(b"IEND", b"content")),
    "stream cut off": (False, pixels_in(COMPRESSED[: len(COMPRESSED) // 2])),
    "nothing in the stream": (False, pixels_in(zlib.compress(b""))),
    "no stream": (False, pixels_in(b"")),
    "unknown filter": (False, pixels_in(zlib.compress(b"\5" + rows(RGB)[1:]))),
    "preset dictionary": (False, pixels_in(b"\x78\xbb" + COMPRESSED[2:])),
    "no rows": (False, head(RGB, height=0) + pixels_in(COMPRESSED)[HEADER_END:]),
    "no columns": (False, head(RGB, width=0) + pixels_in(COMPRESSED)[HEADER_END:]),
}


@pytest.mark.parametrize("name", PIXELS)
def test_the_same_files_are_accepted_as_by_pillow(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    accepted, encoded = PIXELS[name]
    assert find_plain(encoded) is not None
    assert (check_same_with_pillow(encoded) is not None) == accepted
    assert capfd.readouterr() == ("", "")


numbers = st.integers(0, 2**16 - 1)


@settings(max_examples=400, deadline=None)
@given(
    colours=st.sampled_from([GRAY, RGB, RGBA]),
    level=st.sampled_from([0, 1, 9]),
    window=st.sampled_from([9, 15]),
    flips=st.lists(st.tuples(numbers, st.integers(1, 255)), max_size=2),
    kept=st.one_of(st.none(), numbers),
    cuts=st.lists(numbers, max_size=3),
    tail=st.binary(max_size=6),
)
def test_damage_in_compressed_pixels_has_the_fate_that_pillow_gives_it(
    colours: int,
    level: int,
    window: int,
    flips: list[tuple[int, int]],
    kept: int | None,
    cuts: list[int],
    tail: bytes,
) -> None:
    """Checksums of chunks are right, so that the damage reaches the decoders."""
    compressor = zlib.compressobj(level, wbits=window)
    stream = bytearray(compressor.compress(rows(colours)) + compressor.flush())
    for place, mask in flips:
        stream[place % len(stream)] ^= mask
    if kept is not None:
        del stream[len(stream) - kept % len(stream) :]
    stream += tail
    places = [0, *sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]
    parts = [bytes(stream[start:end]) for start, end in pairwise(places)]
    encoded = head(colours) + b"".join(chunk(b"IDAT", part) for part in parts) + chunk(b"IEND")
    assert find_plain(encoded) is not None
    mended = without_end(colours, bytes(stream))
    if mended is None:
        check_same_with_pillow(encoded)
    else:
        assert np.array_equal(fate(encoded), fate_by_pillow(mended))


def without_end(colours: int, stream: bytes) -> bytes | None:
    """A sound PNG with the rows of a stream that breaks off after them; None for other streams."""
    inflater = zlib.decompressobj()
    size = len(rows(colours))
    try:
        found = inflater.decompress(stream)[:size]
    except zlib.error:
        return None
    if inflater.eof or len(found) < size or max(found[:: size // HEIGHT]) > 4:
        return None
    return head(colours) + chunk(b"IDAT", zlib.compress(found)) + chunk(b"IEND")


@pytest.mark.parametrize("lost", [4, 5])
def test_a_stream_needs_no_end(lost: int) -> None:
    """Pillow 13 refuses the second: the last bytes that it has stand for many rows."""
    black = zlib.compress(bytes(len(rows(RGB))))
    pixels = fate(pixels_in(black[:-lost]))
    assert pixels is not None and not pixels.any()


@settings(max_examples=300, deadline=None)
@given(
    encoded=st.sampled_from([plain(GRAY), plain(RGB, before=NOTES["gamma"]), plain(RGBA, after=NOTES["texts"])]),
    flips=st.lists(st.tuples(numbers, st.integers(1, 255)), max_size=2),
    size=st.one_of(st.none(), numbers),
)
def test_damage_anywhere_has_the_fate_that_pillow_gives_it(
    encoded: bytes, flips: list[tuple[int, int]], size: int | None
) -> None:
    damaged = bytearray(encoded)
    for place, mask in flips:
        damaged[place % len(damaged)] ^= mask
    check_same_with_pillow(bytes(damaged[: None if size is None else size % len(damaged)]))


def test_libspng_gets_no_more_than_header_and_pixels() -> None:
    """It would inflate a profile of any length."""
    found = find_plain(plain(before=NAMED_PROFILE, after=NOTES["texts"]) + b"more")
    assert found is not None and found.encoded == plain()
    assert (found.height, found.width) == (HEIGHT, WIDTH)


def test_too_many_pixels_are_refused_from_the_header() -> None:
    bomb = head(RGB, 10_000, 10_000) + plain()[HEADER_END:]
    with (
        patch.object(png, "decode_plain", side_effect=AssertionError),
        pytest.raises(DecodeError, match="10000 x 10000 pixels are above the limit"),
    ):
        decode_rgb(bomb)
