"""How benchmarks time work: on the wall, in CPU time, and as ratios of the same round."""

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch


def timed(work: Callable[[], Any], repeats: int, device: torch.device) -> tuple[float, float]:
    """Wall seconds, and CPU seconds of the process, of one of `repeats` turns that the device has done."""
    started = time.perf_counter(), time.process_time()
    for _ in range(repeats):
        work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return (time.perf_counter() - started[0]) / repeats, (time.process_time() - started[1]) / repeats


def ratio_summary(values: Sequence[float], base: Sequence[float]) -> dict[str, float]:
    """Median and quartiles of the ratios, round by round."""
    ratios = [ours / theirs for ours, theirs in zip(values, base, strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive") if len(ratios) > 1 else ratios * 3
    return {"median": middle, "lower_quartile": low, "upper_quartile": high}
