"""Decoding and views against Pillow and torchvision, on odd and hostile images too."""

import io
import zlib

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats
from torchvision.transforms import v2

from scaling.data.read.images.decode import DecodeError, decode_rgb
from scaling.data.read.images.transforms import (
    AREA_RANGE,
    ATTEMPTS,
    WORDS,
    draw_uniform,
    evaluate_view,
    inception_box,
    resize,
    training_view,
)


def photo(height: int, width: int, channels: int = 3, seed: int = 0) -> np.ndarray:
    """Smooth structure with some noise, so that resampling errors show."""
    y, x = np.mgrid[:height, :width]
    generator = np.random.default_rng(seed)
    planes = [
        127 + 90 * np.sin(x / (5 + c) + y / 9) + generator.normal(0, 12, (height, width)) for c in range(channels)
    ]
    return np.clip(np.stack(planes, axis=-1), 0, 255).astype(np.uint8)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def worst_difference(view: torch.Tensor, expected: np.ndarray) -> int:
    """Grey levels between a (3, height, width) view and (height, width, 3) pixels."""
    return int(np.abs(view.permute(1, 2, 0).numpy().astype(int) - expected).max())


RGB = Image.fromarray(photo(40, 30))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_rgb_images_decode_as_pillow_decodes_them(kind: str) -> None:
    data = encoded(RGB, kind)
    assert np.array_equal(decode_rgb(data), np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))


@pytest.mark.parametrize(
    ("mode", "kind"), [("L", "JPEG"), ("CMYK", "JPEG"), ("P", "PNG"), ("LA", "PNG"), ("RGBA", "WEBP")]
)
def test_other_colour_modes_become_rgb(mode: str, kind: str) -> None:
    pixels = decode_rgb(encoded(RGB.convert(mode), kind))
    assert pixels.shape == (40, 30, 3) and pixels.dtype == np.uint8
    reference = np.asarray(RGB.convert("L").convert("RGB") if mode in ("L", "LA") else RGB)
    assert np.abs(pixels.astype(int) - reference).mean() < 25  # Palette and CMYK lose colour, not the image.


def test_sixteen_bits_are_scaled_not_clipped() -> None:
    values = np.linspace(0, 65535, 32 * 16).astype(np.uint16).reshape(32, 16)
    pixels = decode_rgb(encoded(Image.fromarray(values), "PNG"))
    assert np.array_equal(pixels[:, :, 0], values >> 8)
    assert np.array_equal(pixels[:, :, 0], pixels[:, :, 2])


def test_an_animation_is_its_first_frame() -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    data = encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True)
    assert decode_rgb(data)[0, 0].tolist() == [255, 0, 0]


def chunk(name: bytes, body: bytes) -> bytes:
    return len(body).to_bytes(4, "big") + name + body + zlib.crc32(name + body).to_bytes(4, "big")


def with_chunks(chunks: bytes) -> bytes:
    """A sound PNG of RGB with chunks of one's own before its pixels."""
    png = encoded(RGB, "PNG")
    return png[:33] + chunks + png[33:]


def png_bomb(side: int) -> bytes:
    """A PNG that claims side x side pixels; only its header is real."""
    header = side.to_bytes(4, "big") * 2 + bytes([8, 2, 0, 0, 0])
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not an image",
        encoded(RGB, "JPEG")[:300],
        encoded(RGB, "PNG")[:-30],
        encoded(RGB, "GIF"),
        png_bomb(50_000),
    ],
    ids=["empty", "text", "cut jpeg", "cut png", "gif", "bomb"],
)
def test_broken_foreign_and_bombs_are_refused(data: bytes) -> None:
    with pytest.raises(DecodeError):
        decode_rgb(data)


def test_an_image_without_bytes_is_told_as_that() -> None:
    with pytest.raises(DecodeError, match=r"^it has no bytes$"):
        decode_rgb(b"")


def test_what_has_nothing_to_do_with_the_pixels_does_not_stop_a_png() -> None:
    profile = chunk(b"iCCP", b"name\0\0" + zlib.compress(bytes(30_000_000)))
    text = chunk(b"zTXt", b"note\0\0" + zlib.compress(bytes(30_000_000)))
    assert np.array_equal(decode_rgb(with_chunks(profile + text)), decode_rgb(encoded(RGB, "PNG")))


def test_a_png_of_very_many_chunks_is_refused_from_their_number() -> None:
    note = chunk(b"tEXt", b"a\0b")
    assert np.array_equal(decode_rgb(with_chunks(90_000 * note)), decode_rgb(encoded(RGB, "PNG")))
    with pytest.raises(DecodeError, match="more than 100,000 chunks"):
        decode_rgb(with_chunks(2_000_000 * note))


def test_upstream_view_is_torchvisions_resize_and_centre_crop() -> None:
    for height, width in ((90, 60), (60, 90), (300, 200), (32, 32)):
        image = photo(height, width)
        reference = v2.Compose([v2.Resize(64, antialias=True), v2.CenterCrop(56)])(
            torch.from_numpy(image).permute(2, 0, 1)
        )
        view = evaluate_view(image, "upstream", 56)
        assert torch.equal(view, reference)


def test_few_shot_view_ignores_the_aspect_ratio() -> None:
    image = photo(90, 60)
    squared = np.asarray(Image.fromarray(image).resize((64, 64), Image.Resampling.BILINEAR))
    assert worst_difference(evaluate_view(image, "fewshot", 56), squared[4:60, 4:60]) <= 1


@pytest.mark.parametrize("size", [(50, 70), (500, 333), (20, 24)])
def test_training_view_is_crop_then_antialiased_bilinear_resize(size: tuple[int, int]) -> None:
    """At most 0.2 grey levels from Pillow on average, and nowhere more than one."""
    differences = []
    for number, draws in enumerate(draw_uniform(0, 0, 12).tolist()):
        image = photo(*size, seed=number)
        top, left, height, width = inception_box(draws, *size)
        crop = Image.fromarray(image).crop((left, top, left + width, top + height))
        expected = np.asarray(crop.resize((32, 32), Image.Resampling.BILINEAR)).astype(int)
        if draws[2 * ATTEMPTS + 2] < 0.5:
            expected = expected[:, ::-1]
        view = training_view(image, draws, "inception", 32).permute(1, 2, 0).numpy()
        differences.append(np.abs(view - expected))
    assert np.max(differences) <= 1
    assert np.mean(differences) < 0.2


def test_crops_are_distributed_as_torchvisions() -> None:
    """Area, aspect ratio and place of 20,000 crops, two-sample Kolmogorov-Smirnov against RandomResizedCrop."""
    count, height, width = 20_000, 300, 400
    boxes = np.array([inception_box(draws, height, width) for draws in draw_uniform(1, 0, count).tolist()])
    torch.manual_seed(0)
    crop = v2.RandomResizedCrop(224, scale=AREA_RANGE, ratio=(3 / 4, 4 / 3))
    canvas = torch.empty(3, height, width)
    reference = np.array(
        [[p["top"], p["left"], p["height"], p["width"]] for p in (crop.make_params([canvas]) for _ in range(4000))]
    )

    def features(box: np.ndarray) -> list[np.ndarray]:
        top, left, h, w = box.T
        return [h * w, w / h, top / (height - h + 1), left / (width - w + 1)]

    for ours, theirs in zip(features(boxes), features(reference), strict=True):
        assert stats.ks_2samp(ours, theirs).pvalue > 1e-4


def test_draws_depend_on_seed_and_position_alone() -> None:
    whole = draw_uniform(7, 0, 100)
    assert whole.shape == (100, WORDS)
    assert np.array_equal(draw_uniform(7, 31, 20), whole[31:51])
    assert not np.array_equal(draw_uniform(8, 0, 100), whole)
    assert whole.min() >= 0 and whole.max() < 1
    assert abs(whole.mean() - 0.5) < 0.02


@pytest.mark.parametrize("kind", ["none", "flip"])
def test_views_without_crop(kind: str) -> None:
    images = [photo(32, 32, seed=seed) for seed in range(64)]
    draws = draw_uniform(0, 0, 64).tolist()
    out = [training_view(image, row, kind, 32) for image, row in zip(images, draws, strict=True)]
    flipped = sum(worst_difference(view, image[:, ::-1]) == 0 for view, image in zip(out, images, strict=True))
    same = sum(worst_difference(view, image) == 0 for view, image in zip(out, images, strict=True))
    assert flipped + same == 64
    assert flipped == 0 if kind == "none" else 16 < flipped < 48


def test_the_whole_view_is_a_plain_resize() -> None:
    image = photo(90, 60)
    resized = np.asarray(Image.fromarray(image).resize((56, 56), Image.Resampling.BILINEAR))
    assert worst_difference(evaluate_view(image, "whole", 56), resized) <= 1


@pytest.mark.parametrize("kind", ["crop", "crop_flip"])
def test_crops_from_a_resized_square_start_anywhere_equally_often(kind: str) -> None:
    """HyperRule's: 16 of 20 pixels, so five starts along each side; flipped half the time where asked for."""
    image = photo(50, 70)
    square = np.asarray(Image.fromarray(image).resize((20, 20), Image.Resampling.BILINEAR)).astype(int)
    windows = {
        (top, left, flipped): square[top : top + 16, left : left + 16][:, :: -1 if flipped else 1]
        for top in range(5)
        for left in range(5)
        for flipped in (False, True)
    }
    counts = dict.fromkeys(windows, 0)
    for draws in draw_uniform(0, 0, 2_000).tolist():
        view = training_view(image, draws, kind, 16, 20).permute(1, 2, 0).numpy().astype(int)
        (found,) = [place for place, window in windows.items() if np.abs(view - window).max() <= 1]
        counts[found] += 1
    seen = [count for (_, _, flipped), count in counts.items() if kind == "crop_flip" or not flipped]
    assert sum(seen) == 2_000
    mean = 2_000 / len(seen)
    assert max(abs(count - mean) for count in seen) < 5 * mean**0.5


def test_resized_pixels_stay_channels_last() -> None:
    """Otherwise storing a view into its batch costs as much as resizing it."""
    assert resize(photo(50, 70), 32, 32).stride() == (1, 3 * 32, 3)
