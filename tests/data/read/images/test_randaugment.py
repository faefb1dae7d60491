"""RandAugment: every operation against torchvision's, and draws that depend on seed and position alone."""

import itertools
import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.cbook import get_sample_data
from PIL import Image
from torchvision.transforms.v2 import functional as reference

from scaling.data.format.load_manifest import load_manifest
from scaling.data.read.images.randaugment import OPERATIONS, randaugment
from scaling.data.read.images.transforms import Augmentation, draw_uniform
from scaling.data.read.loader import TrainLoader
from scaling.data.read.pixels import PixelSource
from scaling.data.select.subset import select_subset

SIZE = 112
"""Half the size that lengths are meant for."""


@pytest.fixture(scope="module")
def photograph() -> torch.Tensor:
    with get_sample_data("grace_hopper.jpg") as stream:
        image = Image.open(stream).convert("RGB").crop((60, 20, 452, 412)).resize((SIZE, SIZE))
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def apply(name: str, view: torch.Tensor, magnitude: float, sign: int = 1, top: float = 0, left: float = 0):
    word = (list(OPERATIONS).index(name) + 0.5) / len(OPERATIONS)
    return randaugment(view, [word, 0.25 if sign > 0 else 0.75, top, left], magnitude)


def moved(view: torch.Tensor, source: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]):
    """Every pixel taken from `source` of its row and column, cut down to whole pixels; 128 from outside."""
    rows, columns = np.meshgrid(np.arange(SIZE) + 0.5, np.arange(SIZE) + 0.5, indexing="ij")
    rows, columns = (np.floor(places).astype(int) for places in source(rows, columns))
    inside = (rows >= 0) & (rows < SIZE) & (columns >= 0) & (columns < SIZE)
    pixels = view.numpy()[:, rows.clip(0, SIZE - 1), columns.clip(0, SIZE - 1)]
    return torch.from_numpy(np.where(inside, pixels, np.uint8(128)))


LEVEL: dict[str, Callable[[torch.Tensor, float], torch.Tensor]] = {
    "AutoContrast": lambda view, level: reference.autocontrast(view),
    "Equalize": lambda view, level: reference.equalize(view),
    "Invert": lambda view, level: reference.invert(view),
    "Posterize": lambda view, level: reference.posterize(view, min(8, int(level * 4))) if level else view * 0,
    "Solarize": lambda view, level: torch.where(view.int() < int(level * 256), view, 255 - view),
    "Color": lambda view, level: reference.adjust_saturation(view, 0.1 + 1.8 * level),
    "Contrast": lambda view, level: reference.adjust_contrast(view, 0.1 + 1.8 * level),
    "Brightness": lambda view, level: reference.adjust_brightness(view, 0.1 + 1.8 * level),
    "Sharpness": lambda view, level: reference.adjust_sharpness(view, 0.1 + 1.8 * level),
    "SolarizeAdd": lambda view, level: torch.where(
        view < 128, (view.int() + int(level * 110)).clamp(max=255), view.int()
    ).to(torch.uint8),
}

GREY_LEVELS = {"AutoContrast": 1, "Color": 4, "Contrast": 4, "Brightness": 1, "Sharpness": 2}
"""Largest difference of a pixel: the two round greys and means differently, which a factor of 3.7 makes larger."""


@pytest.mark.parametrize("magnitude", [0, 5, 10, 15, 20])
@pytest.mark.parametrize("name", LEVEL)
def test_colours_are_torchvisions(name: str, magnitude: float, photograph: torch.Tensor) -> None:
    ours, theirs = apply(name, photograph, magnitude), LEVEL[name](photograph, magnitude / 10)
    assert (ours.int() - theirs.int()).abs().max() <= GREY_LEVELS.get(name, 0)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("magnitude", [5, 10, 15])
def test_places_are_where_the_matrix_says(magnitude: float, sign: int, photograph: torch.Tensor) -> None:
    """Pixel by pixel against the definition; lengths are halved at 112 pixels."""
    shear, shift = sign * magnitude / 10 * 0.3, sign * magnitude / 10 * 100 * SIZE / 224
    cases = {
        "ShearX": lambda rows, columns: (rows, columns + shear * rows),
        "ShearY": lambda rows, columns: (rows + shear * columns, columns),
        "TranslateX": lambda rows, columns: (rows, columns - shift),
        "TranslateY": lambda rows, columns: (rows - shift, columns),
    }
    for name, source in cases.items():
        assert torch.equal(apply(name, photograph, magnitude, sign), moved(photograph, source)), name


@pytest.mark.parametrize("degrees", [-45, -15, 15, 30])
def test_rotation_is_torchvisions_but_for_rounding(degrees: float, photograph: torch.Tensor) -> None:
    ours = apply("Rotate", photograph, abs(degrees) / 3, 1 if degrees > 0 else -1)
    theirs = reference.rotate(photograph, degrees, fill=[128, 128, 128])
    assert (ours != theirs).any(dim=0).float().mean() < 0.005
    assert (ours == 128).all(dim=0).float().mean() > 0.04


def test_a_square_is_cut_out_where_drawn(photograph: torch.Tensor) -> None:
    """At magnitude 15 and 112 pixels its side is 2 x 30; what sticks out is lost."""
    cut = apply("Cutout", photograph, 15, top=0.5, left=0.0)
    expected = photograph.clone()
    expected[:, 56 - 30 : 56 + 30, 0:30] = 128
    assert torch.equal(cut, expected)


def test_layers_follow_each_other(photograph: torch.Tensor) -> None:
    words = draw_uniform(1, 0, 1, 8)[0].tolist()
    once = randaugment(photograph, words[:4], 15)
    assert torch.equal(randaugment(photograph, words, 15), randaugment(once, words[4:], 15))


def test_operations_are_drawn_alike_often() -> None:
    """16 operations in 20,000 draws: each within five standard deviations, and other draws are left as they were."""
    augmentation = Augmentation("inception", 2, 15.0)
    draws = augmentation.draw(3, 1000, 10_000)
    assert np.array_equal(draws[:, :24], draw_uniform(3, 1000, 10_000))
    counts = Counter((draws[:, [24, 28]] * 16).astype(int).ravel().tolist())
    assert sorted(counts) == list(range(16))
    assert all(abs(count - 1250) < 5 * math.sqrt(1250 * 15 / 16) for count in counts.values())


def views(data: Path, **settings: int) -> list[list[bytes]]:
    source = PixelSource(load_manifest(data / "train.json"))
    loader = TrainLoader(
        source,
        select_subset(source.manifest, 0.6, 0),
        seed=3,
        batch=24,
        image_size=16,
        augment=Augmentation("inception", 2, 15.0),
        **settings,
    )
    return [[view.numpy().tobytes() for view in batch.images] for batch in itertools.islice(loader, 8)]


def test_views_depend_on_seed_and_position_alone(tiny_data: Path) -> None:
    alone = views(tiny_data)
    for world in (2, 4):
        ranks = [views(tiny_data, rank=rank, world=world, threads=1 + rank) for rank in range(world)]
        for step, whole in enumerate(alone):
            assert [view for row in zip(*(rank[step] for rank in ranks), strict=True) for view in row] == whole
    assert views(tiny_data, start_position=3 * 24)[:5] == alone[3:]
