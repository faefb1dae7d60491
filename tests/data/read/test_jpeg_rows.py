"""Decoding the upper rows of a JPEG against decoding all of it."""

import io
from functools import partial

import numpy as np
import pytest
from PIL import Image

from scaling.data.read.decode import DecodeError, decode_rgb
from scaling.data.read.jpeg_rows import MIN_BYTES, find_frame, find_scans
from scaling.data.read.transforms import Augmentation

HEIGHT, WIDTH = 211, 173


def jpeg(mode: str = "RGB", **options: object) -> bytes:
    """Noise with structure, HEIGHT x WIDTH, of more than MIN_BYTES."""
    coarse = np.random.default_rng(3).integers(0, 256, (27, 22, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)).astype(int)
    noise = np.random.default_rng(4).normal(0, 20, smooth.shape)
    stream = io.BytesIO()
    image = Image.fromarray(np.clip(smooth + noise, 0, 255).astype(np.uint8)).convert(mode)
    image.save(stream, "JPEG", **{"quality": 93, **options})
    assert len(stream.getvalue()) >= MIN_BYTES
    return stream.getvalue()


KINDS = {
    "4:4:4": jpeg(subsampling=0),
    "4:2:2": jpeg(subsampling=1),
    "4:2:0": jpeg(subsampling=2),
    "grey": jpeg("L"),
    "restarts": jpeg(subsampling=2, restart_marker_rows=1),
    "thumbnail": jpeg(exif=b"Exif\0\0" + jpeg()[:30_000]),
}


@pytest.mark.parametrize("kind", KINDS)
def test_rows_that_are_needed_are_those_of_the_whole_image(kind: str) -> None:
    whole = decode_rgb(KINDS[kind])
    frame = find_frame(KINDS[kind])
    assert frame is not None and frame.height == HEIGHT
    for rows in (1, 15, 16, 17, 100, 176, 177, HEIGHT - 1, HEIGHT):
        pixels = decode_rgb(KINDS[kind], lambda height, width, rows=rows: rows)
        assert pixels.shape == whole.shape and np.array_equal(pixels[:rows], whole[:rows]), rows


def test_only_those_rows_are_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(np, "empty", np.zeros)
    pixels = decode_rgb(KINDS["4:2:0"], lambda height, width: 50)
    assert pixels[:80].any(axis=(1, 2)).all() and not pixels[80:].any()


@pytest.mark.parametrize("kind", ["none", "inception", "crop_flip"])
def test_views_are_the_same(kind: str) -> None:
    augmentation = Augmentation(kind, crop_from=40 if kind == "crop_flip" else 0)
    whole = decode_rgb(KINDS["4:2:0"])
    for draws in augmentation.draw(0, 0, 40).tolist():
        pixels = decode_rgb(KINDS["4:2:0"], partial(augmentation.rows_needed, draws))
        assert augmentation.view(pixels, draws, 32).equal(augmentation.view(whole, draws, 32))


@pytest.mark.parametrize("options", [{"progressive": True}, {"progressive": True, "subsampling": 2}])
def test_progressive_images_are_decoded_whole(options: dict[str, object]) -> None:
    data = jpeg(**options)
    assert find_frame(data) is None
    assert np.array_equal(decode_rgb(data, lambda height, width: 8), decode_rgb(data))


def test_what_is_broken_is_broken_however_few_rows_are_needed() -> None:
    data = KINDS["4:2:0"]
    with pytest.raises(DecodeError):
        decode_rgb(data[: 2 * len(data) // 3], lambda height, width: 8)


def test_scans_after_the_only_one_are_noticed() -> None:
    data = KINDS["4:2:0"]
    scan = data[data.index(b"\xff\xda") : -2]
    for count, words in ((1, "broken data stream"), (120, "121 scans")):
        for rows in (8, HEIGHT):
            with pytest.raises(DecodeError, match=words):
                decode_rgb(data[:-2] + scan[:600] * count + data[-2:], lambda height, width, rows=rows: rows)


def test_scans_are_found_wherever_they_are() -> None:
    for data in (*KINDS.values(), jpeg(progressive=True)):
        found = find_scans(data).tolist()
        assert len(found) == data.count(b"\xff\xda") and all(data[at : at + 2] == b"\xff\xda" for at in found)
