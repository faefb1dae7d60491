"""`python -m scaling.bench pipeline`: training input per core, side by side with the loaders people use today.

All loaders read the same shards, crop (area 5-100 %), resize and flip, each in this process with one worker, in turns,
so that drifts of the machine meet all alike. What is compared is images per second of CPU time of the whole process,
after a warm-up; the ratios are what to trust. Ours decodes every image here; where a training process would remember
all of them, a row more tells its later epochs. It delivers uint8, normalised on the device; the others deliver
normalised floats, as they do by default. The last row is what the libraries that we use take for the same images when
nothing is read, chosen or checked.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Generator
from contextlib import closing
from pathlib import Path
from typing import Any

import torch

from scaling.bench.command import add_json, write_json
from scaling.bench.machine import describe_machine
from scaling.bench.pipeline.decoders import cores_of_a_node, decoders_table, measure_decoders
from scaling.bench.pipeline.facts import (
    ROOM,
    are_all_remembered,
    bare_batches,
    data_wait_share,
    decodes_per_cpu_second,
    mean_image_bytes,
    mean_pixel_error,
    our_batches,
    remembered_batches,
)
from scaling.bench.pipeline.planning import measure_planning
from scaling.bench.pipeline.rivals import check_labels, timm_batches, webdataset_batches
from scaling.data.format.load_manifest import load_manifest
from scaling.data.format.manifest import Manifest
from scaling.errors import UserError
from scaling.launch.options import above_zero
from scaling.readable import plain_table

Batches = Generator[torch.Tensor, None, None]

BASELINE, TIMM, OURS = "webdataset + PIL + torchvision", "timm create_loader", "scaling.data.read.loader"

REMEMBERED, BARE = "the same, images remembered", "bare calls of the libraries"

MAX_PIXELS = 500_000_000
"""Of a batch, which takes 12 bytes for each in the loaders that hand out floats."""

LIBRARIES = (
    *("torch", "torchvision", "timm", "webdataset", "numpy"),
    *("pillow", "simplejpeg", "imagecodecs", "nvidia-nvimgcodec-cu13"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = __doc__
    parser.epilog = "example:\n  python -m scaling.bench pipeline data/photos/manifest.json --images 600 --rounds 5"
    parser.add_argument("manifest", type=Path, nargs="?", metavar="MANIFEST", help="photographs in shards")
    parser.add_argument("--image-size", type=above_zero, default=224, help="side of the input, pixels (default: 224)")
    parser.add_argument("--batch", type=above_zero, default=64, help="default: 64")
    parser.add_argument("--images", type=above_zero, default=600, help="images per loader and round (default: 600)")
    parser.add_argument("--rounds", type=above_zero, default=5, help="default: 5")
    parser.add_argument(
        "--decoders", action="store_true", help="instead of other loaders: ours with 1 and 2 threads, and processes"
    )
    parser.add_argument("--plan-only", action="store_true", help="planning and mixing at 300,000 shards and 512 ranks")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    if args.plan_only:
        figures: dict[str, Any] = measure_planning()
        rows = [
            [name, f"{value:,.3g}" if isinstance(value, float) else f"{value:,}"] for name, value in figures.items()
        ]
        print(plain_table(["planning one rank", "value"], rows))
    elif args.manifest is None:
        raise UserError("name the manifest of some photographs, or give --plan-only")
    elif args.images < args.batch:
        raise UserError(f"--images {args.images}: rounds are of whole batches, of --batch {args.batch}; raise the one")
    elif args.batch * args.image_size**2 > MAX_PIXELS:
        raise UserError(
            f"--image-size {args.image_size}: a batch of {args.batch} has more than {MAX_PIXELS:,} pixels; lower one"
        )
    elif args.decoders:
        figures = measure_decoders(
            load_manifest(args.manifest),
            image_size=args.image_size,
            batch=args.batch,
            num_images=args.images,
            rounds=args.rounds,
        )
        print(decoders_table(figures), *cores_of_a_node(figures), sep="\n")
    else:
        # timm joins its root and the names of shards: a relative one would stand there twice.
        manifest = load_manifest(args.manifest.resolve())
        check_labels(manifest)
        figures = measure_loaders(manifest, args)
        print(_table(figures))
        print(_sentences(figures))
    write_json(figures, args.json)
    return 0


def measure_loaders(manifest: Manifest, args: argparse.Namespace) -> dict[str, Any]:
    """Images per CPU second of each loader, every round, and the medians of the ratios to the first."""
    torch.set_num_threads(1)
    makers: dict[str, Callable[[], Batches]] = {
        BASELINE: lambda: webdataset_batches(manifest, args.image_size, args.batch),
        TIMM: lambda: timm_batches(manifest, args.image_size, args.batch),
        OURS: lambda: our_batches(manifest, args.image_size, args.batch),
    }
    if are_all_remembered(manifest):
        makers[REMEMBERED] = lambda: remembered_batches(manifest, args.image_size, args.batch)
    makers[BARE] = lambda: bare_batches(manifest, args.image_size, args.batch, args.images)
    rates: dict[str, list[float]] = {name: [] for name in makers}
    first_seconds: dict[str, list[float]] = {name: [] for name in (BASELINE, TIMM, OURS)}
    for _ in range(args.rounds):
        for name, make in makers.items():
            # A loader lives for its own turn alone: one that works ahead would otherwise do so in the others' time.
            with closing(make()) as batches:
                seconds = _seconds_of_first(batches)
                if name in first_seconds:
                    first_seconds[name].append(seconds)
                rates[name].append(_images_per_cpu_second(batches, args.images))
    ratios = {
        name: statistics.median(ours / base for ours, base in zip(values, rates[BASELINE], strict=True))
        for name, values in rates.items()
    }
    return {
        "first_batch_seconds": first_seconds,
        "images_per_cpu_second": rates,
        "ratio": ratios,
        "ratio_to_timm": statistics.median(
            ours / theirs for ours, theirs in zip(rates[OURS], rates[TIMM], strict=True)
        ),
        "decode_only_per_cpu_second": decodes_per_cpu_second(manifest, args.images),
        "mean_pixel_error": mean_pixel_error(manifest, args.image_size, args.images),
        "data_wait": data_wait_share(manifest, args.image_size, args.batch, max(4, args.images // args.batch)),
        "data": {"name": manifest.name, "image_bytes": mean_image_bytes(manifest, args.images)},
        "settings": {"image_size": args.image_size, "batch": args.batch, "images": args.images, "rounds": args.rounds},
        "machine": describe_machine(LIBRARIES),
    }


def _images_per_cpu_second(batches: Batches, num_images: int) -> float:
    """In steady state: what a loader had ready at the beginning, it has ready again at the end."""
    count = 0
    started = time.process_time()
    while count < num_images:
        count += len(next(batches))
    return count / (time.process_time() - started)


def _seconds_of_first(batches: Batches) -> float:
    started = time.perf_counter()
    next(batches)
    return time.perf_counter() - started


def _sentences(figures: dict[str, Any]) -> str:
    bare, ours = (statistics.median(figures["images_per_cpu_second"][name]) for name in (BARE, OURS))
    return (
        f"{figures['ratio_to_timm']:.2f} times timm's loader; decoding in full and nothing else does "
        f"{figures['decode_only_per_cpu_second']:,.0f} images/cpu-s; the loader reaches {ours / bare:.0%} of bare "
        "calls\n"
        f"mean difference to Pillow's pixels: {figures['mean_pixel_error']:.3f} grey levels\n"
        f"a step {ROOM} times as long as loading its batch waits {figures['data_wait']:.2%} of its time"
    )


def _table(figures: dict[str, Any]) -> str:
    starts = figures["first_batch_seconds"]
    rows = [
        [
            name,
            f"{statistics.median(rates):,.0f}",
            f"{min(rates):,.0f}-{max(rates):,.0f}",
            f"{figures['ratio'][name]:.2f}",
            f"{statistics.median(starts[name]):.2f}" if name in starts else "",
        ]
        for name, rates in figures["images_per_cpu_second"].items()
    ]
    return plain_table(["loader", "images/cpu-s", "range", "ratio", "first batch s"], rows)
