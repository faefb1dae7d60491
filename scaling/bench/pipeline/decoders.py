"""Training input by threads of one process and by decode processes: what each reaches, and what one more costs."""

import math
import os
import statistics
import time
from collections.abc import Mapping
from contextlib import ExitStack, closing
from typing import Any

from scaling.bench.machine import describe_machine
from scaling.bench.pipeline.facts import mean_image_bytes, our_batches
from scaling.bench.study.processor_time import TICKS_PER_SECOND, tree_cpu_seconds
from scaling.data.format.manifest import Manifest
from scaling.data.read.processes.decode_processes import DecodeProcesses
from scaling.readable import counted, plain_table
from scaling.train.processes.decoding import describe_decoders

WAYS = ((1, 0), (2, 0), (1, 1), (2, 2))
"""Threads, and decode processes that have them."""

LIBRARIES = ("torch", "simplejpeg", "imagecodecs", "pillow", "numpy")

GPUS, IMAGES_PER_SECOND = 8, (1_000, 5_000, 20_000)
"""Of a node, and what each of its GPUs may take."""


def measure_decoders(
    manifest: Manifest, *, image_size: int, batch: int, num_images: int, rounds: int
) -> dict[str, Any]:
    """Images per second and per CPU second of each way, every round, in steady state."""
    rates: dict[str, list[float]] = {describe_decoders(*way): [] for way in WAYS}
    per_cpu: dict[str, list[float]] = {name: [] for name in rates}
    starts: dict[str, list[float]] = {name: [] for name in rates}
    for _ in range(rounds):
        for (threads, num_processes), name in zip(WAYS, rates, strict=True):
            begun = time.perf_counter()
            with ExitStack() as stack:
                processes = stack.enter_context(DecodeProcesses(num_processes, threads)) if num_processes else None
                batches = stack.enter_context(closing(our_batches(manifest, image_size, batch, threads, processes)))
                next(batches)
                starts[name].append(time.perf_counter() - begun)
                # What is ready at the beginning is ready again at the end.
                for _ in range(2):
                    next(batches)
                started, cpu_started, count = time.perf_counter(), tree_cpu_seconds(os.getpid()), 0
                while count < num_images:
                    count += len(next(batches))
                rates[name].append(count / (time.perf_counter() - started))
                # Linux counts in ticks.
                cpu_seconds = max(1 / TICKS_PER_SECOND, tree_cpu_seconds(os.getpid()) - cpu_started)
                per_cpu[name].append(count / cpu_seconds)
    return {
        "images_per_second": rates,
        "images_per_cpu_second": per_cpu,
        "first_batch_seconds": starts,
        "data": {"name": manifest.name, "image_bytes": mean_image_bytes(manifest, num_images)},
        "settings": {"image_size": image_size, "batch": batch, "images": num_images, "rounds": rounds},
        "machine": describe_machine(LIBRARIES),
    }


def cores_of_a_node(figures: Mapping[str, Any]) -> list[str]:
    """On paper: the cores that decode for a node's GPUs, by the CPU time of an image in decode processes."""
    per_core = statistics.median(figures["images_per_cpu_second"][describe_decoders(*WAYS[-1])])
    return [
        f"On paper: {GPUS} GPUs that take {rate:,} images/s each need "
        f"{counted(math.ceil(GPUS * rate / per_core), 'core')} of these for decoding."
        for rate in IMAGES_PER_SECOND
    ]


def decoders_table(figures: dict[str, Any]) -> str:
    """Medians and ranges."""
    return plain_table(
        ["decoded by", "images/s", "range", "images/cpu-s", "range", "first batch s"],
        [
            [
                name,
                f"{statistics.median(rates):,.0f}",
                f"{min(rates):,.0f}-{max(rates):,.0f}",
                f"{statistics.median(per_cpu := figures['images_per_cpu_second'][name]):,.0f}",
                f"{min(per_cpu):,.0f}-{max(per_cpu):,.0f}",
                f"{statistics.median(figures['first_batch_seconds'][name]):.2f}",
            ]
            for name, rates in figures["images_per_second"].items()
        ],
    )
