"""What a study will need on a cluster: hours, decoding cores, object store, disk and money, as a page of Markdown.

Steps, images and FLOPs are those of the plan. Rates are measured ones of a results folder where it has runs of the same
model on as many devices, and otherwise declared: a share of the device's peak. Every other assumption is an option and
stands on the page.
"""

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from scaling.errors import UserError
from scaling.launch.price.forecast import RateBook, Work, train_flops
from scaling.readable import count_text, short_flops, short_time
from scaling.records.run_plan import RunPlan
from scaling.train.reporting.hardware import PEAKS

STATE_BYTES_PER_PARAMETER = {"adam": 12, "sgd": 8}
"""Of a checkpoint: fp32 weights with two moments, or with one momentum."""


@dataclass(frozen=True, slots=True)
class Assumptions:
    """What the plan does not say."""

    devices: int
    devices_per_run: int
    devices_per_node: int
    device: str
    """A name of `PEAKS`."""
    mfu: Mapping[str, float]
    """Model FLOPs utilisation by pattern of model names; the last pattern that matches holds."""
    lost_share: float
    """Share of device time that trains nothing: validation, evaluation, checkpoints, restarts, waiting for a node."""
    image_bytes: float
    shard_images: int
    images_per_core_second: float
    """Decoded, cropped and resized."""
    request_bytes: float
    cache_bytes: float
    """Of a node."""
    keep_checkpoints: int
    price: float | None
    """Of a device-hour."""
    currency: str

    def mfu_of(self, model: str) -> float:
        """The declared utilisation of a model; UserError when no pattern matches it."""
        matching = [share for pattern, share in self.mfu.items() if fnmatchcase(model, pattern)]
        if not matching:
            raise UserError(f"--mfu says nothing of {model}; add --mfu '*=0.35' or --mfu '{model}=0.35'")
        return matching[-1]


@dataclass(frozen=True, slots=True)
class RunNeeds:
    """Of one run, on `devices_per_run` devices. Rates hold while it trains."""

    plan: RunPlan
    is_measured: bool
    wall_seconds: float
    """The lost share included."""
    images_per_second: float
    decoding_cores_per_device: float
    read_bytes: float
    """From the object store, by all of its nodes, over the whole run."""
    read_bytes_per_second: float
    checkpoint_bytes: float


def run_needs(plan: RunPlan, assumed: Assumptions, rates: RateBook) -> RunNeeds:
    """What one run needs. A node fetches every shard of the subset once an epoch, whole, because each rank reads
    samples of every shard; once a run, where the subset fits into its cache."""
    images = plan.schedule.steps * plan.schedule.batch
    is_measured = plan.engine.num_devices == assumed.devices_per_run and rates.knows(plan)
    seconds = rates.seconds(Work(plan)) if is_measured else None
    if seconds is None:
        peak = PEAKS[assumed.device].bf16_flops_per_second
        seconds = train_flops(plan) / (peak * assumed.mfu_of(plan.model.name) * assumed.devices_per_run)
    per_second = images / seconds
    subset_bytes = plan.subset.num_samples * assumed.image_bytes
    fetches = 1.0 if subset_bytes <= assumed.cache_bytes else max(1.0, plan.schedule.epochs)
    read_bytes = subset_bytes * fetches * max(1, assumed.devices_per_run // assumed.devices_per_node)
    parameters = plan.model.num_params
    return RunNeeds(
        plan=plan,
        is_measured=is_measured,
        wall_seconds=seconds / (1 - assumed.lost_share),
        images_per_second=per_second,
        decoding_cores_per_device=per_second / assumed.devices_per_run / assumed.images_per_core_second,
        read_bytes=read_bytes,
        read_bytes_per_second=read_bytes / seconds,
        # Each checkpoint holds a copy of the weights that are best so far.
        checkpoint_bytes=parameters * (STATE_BYTES_PER_PARAMETER[plan.recipe.optimizer] + 4.0),
    )


def makespan_seconds(seconds: Iterable[float], slots: int) -> float:
    """Wall time of runs on so many equal slots, the longest first, each on the slot that is free first."""
    busy = [0.0] * slots
    for one in sorted(seconds, reverse=True):
        heapq.heapreplace(busy, busy[0] + one)
    return max(busy)


def page(needs: Sequence[RunNeeds], assumed: Assumptions, study: str) -> str:
    """The page: totals, a row per model, assumptions, and what they leave out."""
    lines = [f"# What {study} needs on {assumed.devices} × {assumed.device}", ""]
    lines += _table(("total", ""), _total_rows(needs, assumed))
    lines += ["", *_table(MODEL_HEADERS, _model_rows(needs, assumed))]
    lines += ["", "## Assumptions", "", *_table(("option", "value"), _assumption_rows(assumed))]
    return "\n".join([*lines, "", *NOTES, ""])


MODEL_HEADERS = (
    "model", "runs", "rate", "images/s of a device", "decoding cores of a device", "GB/s of a run", "hours of a run",
    "device-hours", "GB of a checkpoint",
)  # fmt: skip

NOTES = (
    "Steps, images and FLOPs are the plan's; everything else is as good as the assumptions. A declared rate is a share",
    "of the device's dense bf16 peak, not a measurement. Evaluations after training are in the lost share. A node",
    "fetches each shard of a run's subset whole, once an epoch, or once a run where the subset fits into its cache.",
)


def _total_rows(needs: Sequence[RunNeeds], assumed: Assumptions) -> list[tuple[str, str]]:
    slots = assumed.devices // assumed.devices_per_run
    plans = [one.plan for one in needs]
    device_hours = sum(one.wall_seconds for one in needs) * assumed.devices_per_run / 3600
    peak_read = sum(sorted((one.read_bytes_per_second for one in needs), reverse=True)[:slots])
    read = sum(one.read_bytes for one in needs)
    images = max(plan.train.num_samples for plan in plans)
    shards = -(-images // assumed.shard_images)
    cores = max(one.decoding_cores_per_device for one in needs) * assumed.devices_per_node
    # The weights that are scored stay beside the last checkpoints.
    kept = sum(one.checkpoint_bytes * assumed.keep_checkpoints + 4.0 * one.plan.model.num_params for one in needs)
    rows = [
        ("runs", f"{len(needs)}, {slots} at a time on {assumed.devices_per_run} devices each"),
        ("images seen", count_text(sum(plan.schedule.steps * plan.schedule.batch for plan in plans))),
        ("training compute", short_flops(sum(map(train_flops, plans)))),
        ("device-hours", f"{device_hours:,.0f}"),
        ("wall time", short_time(makespan_seconds((one.wall_seconds for one in needs), slots))),
        ("data set", f"{_bytes_text(images * assumed.image_bytes)} in {shards:,} shards"),
        ("read from the store", f"{_bytes_text(read)} in {count_text(read / assumed.request_bytes)} requests"),
        ("at most at a time", f"{_bytes_text(peak_read)}/s, {peak_read / assumed.request_bytes:,.0f} requests/s"),
        ("decoding cores of a node, at most", f"{cores:,.0f}"),
        ("checkpoints and weights kept", _bytes_text(kept)),
    ]
    return rows + ([("money", f"{device_hours * assumed.price:,.0f} {assumed.currency}")] if assumed.price else [])


def _bytes_text(num_bytes: float) -> str:
    for scale, prefix in ((1e15, "P"), (1e12, "T"), (1e9, "G")):
        if num_bytes >= scale:
            return f"{num_bytes / scale:.3g} {prefix}B"
    return f"{num_bytes / 1e6:.3g} MB"


def _model_rows(needs: Sequence[RunNeeds], assumed: Assumptions) -> list[tuple[str, ...]]:
    models: dict[str, list[RunNeeds]] = {}
    for one in needs:
        models.setdefault(one.plan.model.name, []).append(one)
    rows: list[tuple[str, ...]] = []
    for name, runs in models.items():
        measured = all(one.is_measured for one in runs)
        seconds = [one.wall_seconds for one in runs]
        rows.append(
            (
                name,
                str(len(runs)),
                "measured" if measured else f"MFU {assumed.mfu_of(name):.0%}",
                f"{sum(one.images_per_second for one in runs) / len(runs) / assumed.devices_per_run:,.0f}",
                f"{max(one.decoding_cores_per_device for one in runs):.2g}",
                f"{max(one.read_bytes_per_second for one in runs) / 1e9:.2g}",
                f"{min(seconds) / 3600:,.0f} to {max(seconds) / 3600:,.0f}",
                f"{sum(seconds) * assumed.devices_per_run / 3600:,.0f}",
                f"{runs[0].checkpoint_bytes / 1e9:.2g}",
            )
        )
    return rows


def _assumption_rows(assumed: Assumptions) -> list[tuple[str, str]]:
    rows = [
        ("--devices", str(assumed.devices)),
        ("--devices-per-run", str(assumed.devices_per_run)),
        ("--devices-per-node", str(assumed.devices_per_node)),
        ("--device", f"{assumed.device}, {PEAKS[assumed.device].bf16_flops_per_second / 1e12:,.0f} TFLOP/s"),
        *(("--mfu", f"{pattern}={share}") for pattern, share in assumed.mfu.items()),
        ("--lost-share", f"{assumed.lost_share:g}"),
        ("--image-bytes", f"{assumed.image_bytes:,.0f}"),
        ("--shard-images", f"{assumed.shard_images:,}"),
        ("--images-per-core-second", f"{assumed.images_per_core_second:,.0f}"),
        ("--request-bytes", f"{assumed.request_bytes:,.0f}"),
        ("--cache-gb", f"{assumed.cache_bytes / 1e9:,.0f}"),
        ("--keep-checkpoints", str(assumed.keep_checkpoints)),
    ]
    return rows + ([("--price", f"{assumed.price:g} {assumed.currency}")] if assumed.price is not None else [])


def _table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return ["| " + " | ".join(cells) + " |" for cells in (headers, ["---"] * len(headers), *rows)]
