"""Which of some models is faster, in inference and in a training step.

The models take turns on random images made on the device, so that drifts of the machine meet all alike; each is
compared with the first in the same round. A training step is forward, backward, clipping and AdamW in bare PyTorch.
"""

import argparse
import itertools
import statistics
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from scaling.bench.command import model_settings, write_json
from scaling.bench.machine import describe_machine, prepare_device, ratio_summary, timed
from scaling.readable import plain_table

LIBRARIES = ("torch", "timm")

WORK = ("inference", "training")


def run(args: argparse.Namespace) -> int:
    """Measure, print and write what `args` asks for."""
    figures = measure(args)
    rows = []
    for name in args.models:
        cells = []
        for kind in ("inference", "training"):
            ratio = figures[kind][name]["speed_ratio"]
            cells += [
                f"{figures[kind][name]['images_per_second']:,.1f}",
                f"{ratio['median']:.2f} ({ratio['lower_quartile']:.2f}-{ratio['upper_quartile']:.2f})",
            ]
        rows.append([name, *cells])
    print(plain_table(["model", "inference images/s", "ratio", "training images/s", "ratio"], rows))
    write_json(figures, args.json)
    return 0


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Images per second of each model, and its speed over the first model's, round by round."""
    prepare_device(args.device)
    from scaling.train.reporting.recorder import device_name

    torch.set_num_threads(args.threads)
    device = torch.device("cuda" if args.device != "cpu" and torch.cuda.is_available() else "cpu")
    seconds: dict[str, dict[str, list[float]]] = {kind: {name: [] for name in args.models} for kind in WORK}
    with tempfile.TemporaryDirectory() as folder:
        works = _works(args, Path(folder), device)
    for round_number in range(args.rounds + 1):
        for (kind, name), work in works.items():
            elapsed, _ = timed(work, args.passes, device)
            if round_number:  # The first one warms up.
                seconds[kind][name].append(elapsed)
    base = args.models[0]
    figures = {
        kind: {
            name: {
                "images_per_second": args.batch / statistics.median(times),
                "speed_ratio": ratio_summary(by_model[base], times),
            }
            for name, times in by_model.items()
        }
        for kind, by_model in seconds.items()
    }
    settings = {name: getattr(args, name) for name in ("batch", "image_size", "precision", "threads", "rounds")}
    return {**figures, "device": device_name(device), "settings": settings, "machine": describe_machine(LIBRARIES)}


def _works(args: argparse.Namespace, folder: Path, device: torch.device) -> dict[tuple[str, str], Callable[[], object]]:
    """What is timed: one pass of each kind and model."""
    from scaling.bench.bare_loop import BareLoop
    from scaling.bench.planned_trainer import make_images, plan_trainers
    from scaling.data.read.loader import Batch
    from scaling.models.networks.vision_model import VisionModel, autocast, normalise
    from scaling.train.scoring import build_planned

    manifest = make_images(folder, 32)
    settings = model_settings(args)
    plans = plan_trainers(folder, manifest, args.models, args.batch, log_steps=1, settings=settings)
    works: dict[tuple[str, str], Callable[[], object]] = {}
    for plan in plans:
        side = plan.model.image_size
        images = torch.randint(0, 256, (args.batch, 3, side, side), dtype=torch.uint8)
        labels = torch.zeros(args.batch, 1, dtype=torch.int64)
        pixels = images.to(device)
        frozen = build_planned(plan.model).to(device).eval()

        def infer(model: VisionModel = frozen, pixels: torch.Tensor = pixels) -> None:
            with torch.inference_mode(), autocast(device, args.precision):
                model(normalise(pixels))

        trained = BareLoop(build_planned(plan.model).to(device), plan, device)
        works["inference", plan.model.name] = infer
        works["training", plan.model.name] = partial(trained.step, itertools.repeat(Batch(images, labels, 0, ())))
    return works
