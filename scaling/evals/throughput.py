"""Inference throughput: images a second through the frozen model, at the batch size that suits the device best.

The Mixer paper sweeps the batch size and reports the best images per second per core. Random images are made on
the device, so that nothing but the model is timed; a first pass at each size is not counted.
"""

import statistics
import time

import torch

from scaling.evals.runner import EvaluationContext
from scaling.evals.settings import ThroughputSettings
from scaling.models.networks.vision_model import VisionModel, autocast
from scaling.records.run_plan import EvalPlan


@torch.inference_mode()
def evaluate(model: VisionModel, plan: EvalPlan, where: EvaluationContext) -> dict[str, float]:
    """`images_per_second` (median over repeats at the best batch size), the lowest and highest repeat there, and
    `batch`."""
    settings = ThroughputSettings.model_validate(plan.settings)
    rates = {batch: _measure(model, batch, settings, where) for batch in settings.batch_sizes}
    best = max(rates, key=lambda batch: statistics.median(rates[batch]))
    return {
        "images_per_second": statistics.median(rates[best]),
        "images_per_second_low": min(rates[best]),
        "images_per_second_high": max(rates[best]),
        "batch": float(best),
    }


def _measure(model: VisionModel, batch: int, settings: ThroughputSettings, where: EvaluationContext) -> list[float]:
    """Images per second of each repeat."""
    images = torch.rand(batch, 3, where.image_size, where.image_size, device=where.device).mul_(2).sub_(1)

    def forward() -> None:
        with autocast(where.device, where.precision):
            model(images)

    forward()
    rates = []
    for _ in range(settings.repeats):
        _wait(where.device)
        started = time.perf_counter()
        passes = 0
        while passes == 0 or time.perf_counter() - started < settings.seconds:
            forward()
            passes += 1
            # Waiting after each pass keeps the loop from running ahead of the device.
            _wait(where.device)
        rates.append(passes * batch / (time.perf_counter() - started))
    return rates


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
