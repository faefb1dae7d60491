"""One model timed in this process, which does nothing else: warm-up, search of the batch size, repeats.

Images are drawn on the device, so nothing but the model is timed; weights are freshly drawn, since no speed depends on
their values. A GPU is timed by marks in its own queue, a CPU by the wall clock.
"""

import gc
import math
import os
import resource
import statistics
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import torch
from torch import nn

from scaling.bench.throughput.order import Order
from scaling.bench.throughput.search import RULE, search_batch
from scaling.bench.throughput.surroundings import Surroundings
from scaling.errors import UserError
from scaling.models.build import build_model
from scaling.models.networks.vision_model import VisionModel, autocast, settle_tf32
from scaling.records.attempts.causes import Cause
from scaling.records.attempts.provenance import describe_harness_source, describe_packages
from scaling.records.scores.throughput import ThroughputRow, quartiles_of
from scaling.train.processes.failures import classify
from scaling.train.reporting.hardware import describe_hardware
from scaling.train.reporting.recorder import device_name
from scaling.train.step.execution import keep_freed_memory
from scaling.train.step.losses import upstream_loss
from scaling.train.step.optimizer import build_optimizer

SEARCH_TURNS = 3
"""Timings of each batch size in the search, together `Order.seconds` long; one where a single pass takes so long."""

WARM_SECONDS = 0.2
"""Untimed passes take so long at least; on a GPU there are two of them, as the first chooses kernels."""

MOST_MEMORY = 0.8
"""Share of a machine's free memory that a batch may be foreseen to take beyond the last one: on a CPU, memory ends
with a killed process."""


def measure(order: Order, surroundings: Surroundings) -> ThroughputRow:
    """The row of one order; UserError when its device is missing or the first batch does not fit."""
    device = _device(order.device)
    torch.set_num_threads(order.threads)
    settle_tf32(order.timed.precision)
    torch.backends.cudnn.benchmark = True  # Shapes are fixed.
    if device.type == "cpu":
        keep_freed_memory()
    timing = Timing(order, device, surroundings)
    search = search_batch(timing.searched_rate, order.first_batch, order.largest_batch)
    if not search.tried:
        raise UserError(
            f"{order.timed.model} at batch {order.first_batch} does not fit into the memory of this device; begin with "
            f"a smaller --batch"
        )
    rates = timing.rates(search.best, order.repeats, order.seconds)
    low, middle, high = quartiles_of(rates)
    source = describe_harness_source()
    is_gpu = device.type == "cuda"
    return ThroughputRow(
        **order.timed.model_dump(),
        images_per_second=middle,
        lower_quartile=low,
        upper_quartile=high,
        rates=tuple(rates),
        repeat_seconds=order.seconds,
        batch=search.best,
        search=search.tried,
        search_rule=RULE,
        search_end=search.end,
        timer="CUDA events" if is_gpu else "wall clock",
        memory_gb=torch.cuda.max_memory_allocated(device) / 1e9 if is_gpu else None,
        device=device_name(device),
        threads=order.threads,
        load_average=os.getloadavg()[0],
        disturbances=surroundings.disturbances(on_gpu=is_gpu),
        hardware=describe_hardware(),
        packages=describe_packages(),
        version=source.version,
        git_commit=source.git_commit,
        git_dirty=source.git_dirty,
        unix_time=time.time(),
    )


class Timing:
    """Passes of one model at any batch size."""

    def __init__(self, order: Order, device: torch.device, surroundings: Surroundings) -> None:
        self._order, self._device, self._surroundings = order, device, surroundings
        self._model = _build(order).to(device)
        self._optimizer = None
        if order.timed.work == "training":
            self._optimizer = build_optimizer(self._model.train(), order.recipe, skip_non_finite=False)
            if order.timed.activation_checkpointing:
                self._model.checkpoint_activations()
        else:
            self._model.eval()
        self._memory_before = _peak_bytes()
        self._last_batch = 0

    def searched_rate(self, batch: int) -> float | None:
        """Images per second of a few short turns, or None where memory does not suffice."""
        if not self._has_room(batch):
            return None
        self._last_batch = batch
        try:
            return statistics.median(self.rates(batch, SEARCH_TURNS, self._order.seconds / SEARCH_TURNS, brief=True))
        except Exception as error:
            if classify(error) is not Cause.OUT_OF_MEMORY:
                raise
        # Outside of the handler, whose traceback holds the tensors.
        gc.collect()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        return None

    def rates(self, batch: int, repeats: int, seconds: float, *, brief: bool = False) -> list[float]:
        """Images per second of `repeats` turns of at least `seconds`, after a warm-up; `brief`: fewer turns where they
        last longer than asked for."""
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
        if self._order.timed.compile_mode != "none":
            # Each size is compiled for itself, as a study would; dynamic shapes give slower code.
            torch.compiler.reset()
            self._model.compile(mode=self._order.timed.compile_mode, dynamic=False)
        work = self._work(batch)
        passes = max(1, math.ceil(seconds / self._warm_up(work)))
        found = []
        for _ in range(repeats):
            with self._surroundings.watching():
                elapsed = time_passes(work, passes, self._device)
            found.append(passes * batch / elapsed)
            if brief and elapsed * len(found) >= repeats * seconds:
                break
        return found

    def _warm_up(self, work: Callable[[], None]) -> float:
        """Seconds of the last untimed pass."""
        begin = time.perf_counter()
        elapsed = time_passes(work, 1, self._device)
        while self._device.type == "cuda" or time.perf_counter() - begin < WARM_SECONDS:
            elapsed = time_passes(work, 1, self._device)
            if time.perf_counter() - begin >= WARM_SECONDS:
                break
        return elapsed

    def _work(self, batch: int) -> Callable[[], None]:
        """One pass over a batch that lies on the device."""
        timed, recipe, device = self._order.timed, self._order.recipe, self._device
        images = torch.rand(batch, 3, timed.image_size, timed.image_size, device=device).mul_(2).sub_(1)
        if timed.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        labels = torch.zeros(batch, 1, dtype=torch.int64, device=device)
        model, optimizer = self._model, self._optimizer

        @torch.inference_mode()
        def infer() -> None:
            with autocast(device, timed.precision):
                model(images)

        def train() -> None:
            assert optimizer is not None
            optimizer.zero_grad()
            with autocast(device, timed.precision):
                logits = model(images)
            upstream_loss(logits, labels, recipe.loss, recipe.label_smoothing).backward()
            nn.utils.clip_grad_norm_(model.parameters(), recipe.clip or math.inf)
            optimizer.step()

        return infer if optimizer is None else train

    def _has_room(self, batch: int) -> bool:
        """Whether a batch fits into the memory of a CPU's machine, by what the batch before it took."""
        if self._device.type != "cpu" or not self._last_batch:
            return True
        growth = (_peak_bytes() - self._memory_before) * (batch / self._last_batch - 1)
        free = free_bytes()
        return free is None or growth <= MOST_MEMORY * free


def time_passes(work: Callable[[], None], passes: int, device: torch.device) -> float:
    """Seconds that the device took for them, all done."""
    if device.type != "cuda":
        begin = time.perf_counter()
        for _ in range(passes):
            work()
        return time.perf_counter() - begin
    first, last = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    torch.cuda.synchronize(device)
    first.record()
    for _ in range(passes):
        work()
    last.record()
    last.synchronize()
    return first.elapsed_time(last) / 1000


def _build(order: Order) -> VisionModel:
    model = order.model
    return build_model(
        model.name,
        num_classes=model.num_classes,
        image_size=model.image_size,
        head_bias=model.head_bias,
        drop_path=order.timed.drop_path,
        options=model.options,
    )


def _device(wanted: str) -> torch.device:
    if wanted == "cpu" or (wanted == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise UserError("--device cuda: PyTorch finds no GPU; leave --device out to measure on the CPU")
    torch.cuda.set_device(0)
    return torch.device("cuda", 0)


def _peak_bytes() -> float:
    """Most memory that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0


def free_bytes() -> float | None:
    """Memory that this machine, or the control group of this process, has left; None where nobody tells."""
    found = []
    with suppress(OSError, ValueError, IndexError):
        words = Path("/proc/meminfo").read_text().split("MemAvailable:")[1].split()
        found.append(1024.0 * int(words[0]))
    with suppress(OSError, ValueError):
        group = Path("/sys/fs/cgroup")
        found.append(float((group / "memory.max").read_text()) - float((group / "memory.current").read_text()))
    return min(found) if found else None
