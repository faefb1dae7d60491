"""The loaders that people use today, set up as their documentation says, with the same crop and flip as ours."""

import tarfile
from collections.abc import Generator

import torch
import webdataset
from timm.data import create_dataset, create_loader
from torchvision import transforms

from scaling.data.format.manifest import Manifest
from scaling.errors import UserError

SHUFFLED_SAMPLES = 256
"""Kept small: the figure is the cost of an image, and a larger shuffle would only fill later."""

MEAN = STD = (0.5, 0.5, 0.5)

AREA_RANGE = (0.05, 1.0)

IMAGE_EXTENSIONS = "jpg;jpeg;png;webp"


def check_labels(manifest: Manifest) -> None:
    """UserError where timm would pass over every sample, for ever."""
    with tarfile.open(_shards(manifest)[0]) as shard:
        if not any(member.name.endswith(".cls") for member in shard):
            raise UserError(
                f"{manifest.name}: timm's loader takes labels from .cls alone, and the first shard has none; name a "
                "manifest of such labels, or give --decoders to measure this project's loader alone"
            )


def webdataset_batches(manifest: Manifest, image_size: int, batch: int) -> Generator[torch.Tensor, None, None]:
    """`WebDataset(...).shuffle().decode("pil")` with torchvision's transforms, for ever."""
    view = transforms.Compose(
        [
            transforms.RandomResizedCrop(image_size, scale=AREA_RANGE),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )
    data = (
        webdataset.WebDataset(_shards(manifest), shardshuffle=len(manifest.urls))
        .shuffle(SHUFFLED_SAMPLES)
        .decode("pil")
        .to_tuple(IMAGE_EXTENSIONS, "__key__")
        .map_tuple(view, len)
    )
    loader = webdataset.WebLoader(data, batch_size=batch, num_workers=0)
    while True:
        for images, _ in loader:
            yield images


def timm_batches(manifest: Manifest, image_size: int, batch: int) -> Generator[torch.Tensor, None, None]:
    """timm's `create_loader` over its WebDataset reader, without colour jitter and the like, for ever."""
    data = create_dataset(
        "wds/",
        root=str(manifest.folder),
        split=f"{'::'.join(_shards(manifest))}|{manifest.num_samples}",
        is_training=True,
        batch_size=batch,
        sample_shuffle_size=SHUFFLED_SAMPLES,
        sample_initial_size=SHUFFLED_SAMPLES,
    )
    loader = create_loader(
        data,
        input_size=(3, image_size, image_size),
        batch_size=batch,
        is_training=True,
        scale=AREA_RANGE,
        color_jitter=0.0,
        mean=MEAN,
        std=STD,
        num_workers=0,
        persistent_workers=False,
        device=torch.device("cpu"),
    )
    while True:
        for images, _ in loader:
            yield images


def _shards(manifest: Manifest) -> list[str]:
    return [manifest.shard_location(number) for number in range(len(manifest.urls))]
