"""What a report of input rates needs besides them: equal pixels, the decoding limit, and whether a step waits."""

import io
import time
from collections.abc import Generator
from contextlib import closing
from functools import partial

import numpy as np
import torch
from PIL import Image

from scaling.data.format.manifest import Manifest
from scaling.data.format.open_shards import OpenShards
from scaling.data.read.images.decode import decode_rgb
from scaling.data.read.images.transforms import ATTEMPTS, Augmentation, draw_uniform, inception_box
from scaling.data.read.loader import TrainLoader
from scaling.data.read.pixels import DEFAULT_CACHE_BYTES, PixelSource
from scaling.data.read.processes.decode_processes import DecodeProcesses
from scaling.data.select.order import SampleOrder
from scaling.data.select.subset import select_subset

ROOM = 1.5
"""A step of the imagined training takes so many times as long as its batch takes to load: the cores suffice."""


def our_batches(
    manifest: Manifest,
    image_size: int,
    batch: int,
    threads: int = 1,
    processes: DecodeProcesses | None = None,
    cache_bytes: int = 0,
) -> Generator[torch.Tensor, None, None]:
    """An endless iterator of this project's training batches, by default without a memory of decoded images."""
    source = PixelSource(manifest, cache_bytes)
    subset = select_subset(manifest, 1.0, 0)
    loader = TrainLoader(
        source,
        subset,
        seed=0,
        batch=batch,
        image_size=image_size,
        augment="inception",
        threads=threads,
        processes=processes,
    )
    with closing(iter(loader)) as batches:
        for part in batches:
            yield part.images


def remembered_batches(manifest: Manifest, image_size: int, batch: int) -> Generator[torch.Tensor, None, None]:
    """Our training batches from the second epoch on, when every decoded image is remembered."""
    batches = our_batches(manifest, image_size, batch, cache_bytes=DEFAULT_CACHE_BYTES)
    for _ in range(-(-manifest.num_samples // batch)):
        next(batches)
    return batches


def are_all_remembered(manifest: Manifest) -> bool:
    """Whether a training process remembers every decoded image by default, if all are as large as the first."""
    (encoded,) = _encoded(manifest, 1)
    return manifest.num_samples * decode_rgb(encoded).nbytes <= DEFAULT_CACHE_BYTES


def bare_batches(
    manifest: Manifest, image_size: int, batch: int, num_images: int
) -> Generator[torch.Tensor, None, None]:
    """What no loader made of these libraries can beat by much: images that lie in memory are decoded, cropped, resized
    and written, each of the four for a whole batch. Nothing is read, chosen or checked, and no thread waits."""
    augmentation, encoded = Augmentation("inception"), _encoded(manifest, num_images)
    draws = augmentation.draw(0, 0, num_images).tolist()
    while True:
        for first in range(0, num_images - batch + 1, batch):
            images = torch.empty(batch, image_size, image_size, 3, dtype=torch.uint8).permute(0, 3, 1, 2)
            rows = slice(first, first + batch)
            with torch.inference_mode():
                crops = [
                    decode_rgb(data, partial(augmentation.crop, draw))
                    for data, draw in zip(encoded[rows], draws[rows], strict=True)
                ]
                views = [
                    augmentation.view(crop, draw, image_size) for crop, draw in zip(crops, draws[rows], strict=True)
                ]
                for image, view in zip(images, views, strict=True):
                    image[:] = view
            yield images


def mean_pixel_error(manifest: Manifest, image_size: int, num_images: int) -> float:
    """Grey levels, mean absolute, between our views and Pillow's: decode in full, crop, bilinear resize, flip."""
    errors, augmentation = [], Augmentation("inception")
    draws = draw_uniform(0, 0, num_images).tolist()
    for encoded, uniform in zip(_encoded(manifest, num_images), draws, strict=True):
        with Image.open(io.BytesIO(encoded)) as image:
            reference = image.convert("RGB")
        top, left, height, width = inception_box(uniform, reference.height, reference.width)
        reference = reference.crop((left, top, left + width, top + height))
        expected = np.asarray(reference.resize((image_size, image_size), Image.Resampling.BILINEAR), dtype=np.int16)
        if uniform[2 * ATTEMPTS + 2] < 0.5:
            expected = expected[:, ::-1]
        crop = decode_rgb(encoded, partial(augmentation.crop, uniform))
        view = augmentation.view(crop, uniform, image_size)
        errors.append(np.abs(view.permute(1, 2, 0).numpy().astype(np.int16) - expected).mean())
    return float(np.mean(errors))


def decodes_per_cpu_second(manifest: Manifest, num_images: int) -> float:
    """Images decoded in full and nothing else: only a loader that decodes parts of them can be faster."""
    encoded = _encoded(manifest, num_images)
    started = time.process_time()
    for data in encoded:
        decode_rgb(data)
    return num_images / (time.process_time() - started)


def mean_image_bytes(manifest: Manifest, num_images: int) -> float:
    """As they lie in their shards."""
    return float(np.mean([len(encoded) for encoded in _encoded(manifest, num_images)]))


def data_wait_share(manifest: Manifest, image_size: int, batch: int, num_steps: int) -> float:
    """Share of its time that a training loop waits for batches, in steady state, on a device of its own."""
    with closing(our_batches(manifest, image_size, batch)) as batches:
        next(batches)
        started = time.perf_counter()
        for _ in range(num_steps):
            next(batches)
        step_seconds = ROOM * (time.perf_counter() - started) / num_steps
        waited, started = 0.0, time.perf_counter()
        for _ in range(num_steps):
            time.sleep(step_seconds)
            asked = time.perf_counter()
            next(batches)
            waited += time.perf_counter() - asked
        return waited / (time.perf_counter() - started)


def _encoded(manifest: Manifest, num_images: int) -> list[bytes]:
    """Images in training order, as they lie in their shards."""
    shards = OpenShards(manifest)
    places = SampleOrder(select_subset(manifest, 1.0, 0), 0).locate(np.arange(num_images))
    return [
        shards.get(shard).read(index)[0] for shard, index in zip(*(column.tolist() for column in places), strict=True)
    ]
