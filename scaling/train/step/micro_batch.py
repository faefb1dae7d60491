"""The largest micro-batch that fits into a device's memory, found by trying and remembered by the study.

Sizes are divisors of a process's share of the global batch, each at least twice the one before, tried upwards by real
optimiser steps on blank images until memory is out; on a CPU the whole share is tried first. The global batch stays
what was planned. What is tried is thrown away: training starts from freshly drawn weights. Processes agree before they
exchange anything, so that one of them alone may run out of memory without leaving the others to wait for it.
"""

import gc
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from scaling.data.read.to_device import BATCHES_ON_GPU
from scaling.errors import UserError
from scaling.records.attempts.causes import Cause
from scaling.records.reading import RecordError, read_sealed, write_sealed
from scaling.records.run_dir import StudyDir
from scaling.records.run_plan import RunPlan
from scaling.train.processes.agreement import tell
from scaling.train.processes.failures import classify
from scaling.train.processes.process_group import Processes
from scaling.train.reporting.recorder import device_name
from scaling.train.scoring import build_planned
from scaling.train.step.engine import Engine, build_engine
from scaling.train.step.rules import plan_batching

logger = logging.getLogger(__name__)

MARGIN = 0.08
"""Share of a GPU's memory that the chosen size leaves free."""


def find_micro_batch(study_dir: Path, plan: RunPlan, processes: Processes) -> int:
    """What the study remembers for such a device and run, or else what a search finds.

    The first process reads and tells the others: on a shared file system they may still see an older file.
    """
    path, key = StudyDir(study_dir).micro_batches, _key(plan, processes)
    share = plan.schedule.batch // processes.world
    known = _read_sizes(path) if processes.is_first else {}
    size: int | None = tell(known.get(key), processes)
    if size is not None and 0 < size <= share and share % size == 0:
        return size
    starts_whole = processes.device.type == "cpu"
    size = search(share, lambda size: _fits(size, plan, processes), starts_whole=starts_whole)
    logger.info("micro-batches of %d of %d images fit into memory", size, share)
    if processes.is_first:
        write_sealed(path, {**known, key: size})
    return size


def _read_sizes(path: Path) -> dict[str, int]:
    """What is remembered; nothing, with a warning, where the file is damaged."""
    try:
        return {key: size for key, size in read_sealed(path).items() if type(size) is int}
    except FileNotFoundError:
        return {}
    except RecordError as error:
        logger.warning("%s; micro-batches are searched again", error)
        return {}


def search(share: int, fits: Callable[[int], bool], *, starts_whole: bool) -> int:
    """The largest of `candidate_sizes(share)` that fits, given that smaller ones fit wherever a larger one does."""
    if starts_whole and fits(share):
        return share
    best = 0
    for size in candidate_sizes(share):
        if not fits(size):
            break
        best = size
    if not best:
        raise UserError("micro_batch: auto: not even one image at a time fits into memory; take a smaller model")
    return best


def candidate_sizes(share: int) -> Sequence[int]:
    """Divisors of `share` from 1 to `share`, each but the last at least twice the one before."""
    sizes = [1]
    for size in range(2, share + 1):
        if share % size == 0 and (size >= 2 * sizes[-1] or size == share):
            sizes.append(size)
    return sizes


def _fits(size: int, plan: RunPlan, processes: Processes) -> bool:
    """Whether a step of two such micro-batches, or of one that is the whole share, finds room on every process."""
    share = min(2 * size, plan.schedule.batch // processes.world)
    batching = plan_batching(share * processes.world, processes.world, size)
    shape = (3, plan.model.image_size, plan.model.image_size)
    images = torch.zeros(share, *shape, dtype=torch.uint8)
    labels = torch.zeros(share, 1, dtype=torch.int64)
    built: list[Engine] = []
    batches: list[torch.Tensor] = []
    if processes.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(processes.device)

    def build_and_rehearse() -> None:
        if processes.device.type == "cuda":
            num_images = BATCHES_ON_GPU * (plan.schedule.batch // processes.world)
            batches.append(torch.empty(num_images, *shape, dtype=torch.uint8, device=processes.device))
        built.append(build_engine(build_planned(plan.model), plan, batching, processes.device, processes.rank))
        built[0].rehearse(images, labels)

    fits = _finds_room(build_and_rehearse, processes)
    fits = fits and _finds_room(lambda: built[0].train_step(1, images, labels), processes)
    built.clear()
    batches.clear()
    gc.collect()
    if processes.device.type == "cuda":
        torch.cuda.empty_cache()
    return fits


def _finds_room(work: Callable[[], object], processes: Processes) -> bool:
    """Whether every process had the memory for `work`, with a margin left on a GPU."""
    try:
        work()
        is_full = not _leaves_margin(processes.device)
    except Exception as error:
        # PyTorch's own error, but also those of cuBLAS and NCCL, which allocate beside it.
        if not isinstance(error, torch.cuda.OutOfMemoryError) and classify(error) is not Cause.OUT_OF_MEMORY:
            raise
        is_full = True
    return not processes.any(is_full)


def _leaves_margin(device: torch.device) -> bool:
    """Whether a share of the device's memory was never taken: training meets other shapes (validation, the last
    batch) and its memory is cut up in other ways than the trial's."""
    if device.type != "cuda":
        return True
    total = torch.cuda.get_device_properties(device).total_memory
    return torch.cuda.max_memory_reserved(device) <= (1 - MARGIN) * total


def _key(plan: RunPlan, processes: Processes) -> str:
    """All that decides how much memory a micro-batch takes and how much there is."""
    choices = [
        device_name(processes.device),
        plan.model.name,
        f"{plan.model.image_size} px",
        plan.recipe.precision,
        plan.recipe.optimizer,
        f"share {plan.schedule.batch // processes.world} of {processes.world}",
        f"ZeRO {plan.engine.zero_stage}{', exchange overlapped' if plan.engine.overlap_comm else ''}",
        "activations computed again" if plan.engine.activation_checkpointing else "activations kept",
        "compiled" if plan.engine.compile else "not compiled",
    ]
    return ", ".join(choices)
