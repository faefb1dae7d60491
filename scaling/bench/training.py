"""`python -m scaling.bench training`: what the trainer costs on top of a loop of bare PyTorch.

The bare loop and this project's trainer (DeepSpeed engine, step edge, log, records) take turns on the same model, first
with the same batches held in memory, then with batches that our loader makes from shards meanwhile. The trainer's time
is divided by the bare loop's on the same input in the same round, so that drifts of the machine meet both alike. The
ratio of the process's CPU time is reported beside that of the wall clock: other programs disturb it less.
"""

import argparse
import itertools
import statistics
import tempfile
from collections.abc import Callable
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scaling.bench.command import add_json, add_model_options, model_settings, write_json
from scaling.bench.machine import describe_machine, prepare_device, ratio_summary, timed
from scaling.launch.options import above_zero
from scaling.readable import plain_table
from scaling.records.events import read_events
from scaling.records.run_dir import RunDir
from scaling.records.run_plan import RunPlan

if TYPE_CHECKING:
    import torch

BARE, TRAINER = "bare PyTorch loop, batches in memory", "trainer, batches in memory"

BARE_SHARDS, TRAINER_SHARDS = "bare PyTorch loop, batches from shards", "trainer, batches from shards"

PEERS = {BARE: BARE, TRAINER: BARE, BARE_SHARDS: BARE_SHARDS, TRAINER_SHARDS: BARE_SHARDS}
"""What the time of each loop is divided by."""

ORDERS = ((BARE, TRAINER, BARE_SHARDS, TRAINER_SHARDS), (TRAINER, BARE, TRAINER_SHARDS, BARE_SHARDS))

LIBRARIES = ("torch", "deepspeed", "timm", "numpy")

HELD_BATCHES = 4

FIRST_GUESS = 16
"""Batch at which a step is timed to find the batch that takes the wanted time."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = __doc__
    parser.epilog = (
        "examples:\n  python -m scaling.bench training\n"
        "  python -m scaling.bench training --model mixer-l/16 --batch 256 --precision bf16 --data PHOTOS.json\n"
        "  python -m scaling.bench training --batch 256 --set defaults.zero_stage=1"
    )
    parser.add_argument("--model", default="mixer-laptop-32px", help="default: mixer-laptop-32px")
    parser.add_argument("--batch", type=above_zero, help="images a step (default: what takes --step-ms)")
    parser.add_argument("--step-ms", type=float, default=200, help="time of a bare step, ms (default: 200)")
    add_model_options(parser)
    parser.add_argument("--data", type=Path, metavar="MANIFEST", help="photographs in shards (default: made up)")
    parser.add_argument("--steps", type=above_zero, default=5, help="per loop and round (default: 5)")
    parser.add_argument("--rounds", type=above_zero, default=15, help="default: 15")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="as in scaling.launch")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    figures = measure(args)
    print(_table(figures))
    print(
        f"{figures['model']}, {figures['settings']['batch']} images a step, {figures['settings']['image_size']} px, "
        f"{figures['settings']['precision']}, on {figures['device']}: a bare step takes "
        f"{1000 * statistics.median(figures['step_seconds'][BARE]):.0f} ms; the trainer waits "
        f"{figures['data_wait']:.2%} of its time for batches from shards"
    )
    write_json(figures, args.json)
    return 0


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Seconds a step of each loop, every round, and what follows from them."""
    prepare_device(args.device)
    import torch

    from scaling.bench.planned_trainer import make_images, open_trainer, plan_trainers
    from scaling.train.processes.process_group import join_processes
    from scaling.train.reporting.recorder import device_name

    torch.set_num_threads(args.threads)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        processes = stack.enter_context(join_processes(may_use_gpu=args.device != "cpu"))

        def planned(batch: int) -> RunPlan:
            (plan,) = plan_trainers(folder, manifest, [args.model], batch, log_steps=args.steps, settings=settings)
            return plan

        settings = [*model_settings(args), *args.set]
        manifest = args.data or make_images(folder, args.image_size or 64)
        plan = planned(args.batch or FIRST_GUESS)
        if args.batch is None:
            plan = planned(_batch_of(args.step_ms / 1000, plan, processes.device))
        loop = stack.enter_context(open_trainer(folder / "run", plan, processes))
        device = processes.device
        seconds, cpu_seconds, memory = _take_turns(args, plan, loop, device, stack)
        rows = [event.metrics for event in read_events(RunDir(folder / "run").events).events if event.kind == "step"]
        return _figures(args, plan, device_name(device), seconds, cpu_seconds, memory, rows)


def _batch_of(step_seconds: float, plan: RunPlan, device: "torch.device") -> int:
    """The batch at which a bare step takes about so long."""
    import torch

    from scaling.bench.bare_loop import BareLoop
    from scaling.data.read.loader import Batch
    from scaling.train.scoring import build_planned

    batch = FIRST_GUESS
    for _ in range(2):
        shape = (batch, 3, plan.model.image_size, plan.model.image_size)
        held = Batch(torch.zeros(shape, dtype=torch.uint8), torch.zeros(batch, 1, dtype=torch.int64), 0, ())
        sized = plan.model_copy(update={"engine": plan.engine.model_copy(update={"micro_batch": batch})})
        bare = BareLoop(build_planned(plan.model).to(device), sized, device)
        step = partial(bare.step, itertools.repeat(held))
        step()
        seconds = statistics.median(timed(step, 1, device)[0] for _ in range(5))
        batch = max(1, round(batch * step_seconds / seconds))
    return batch


def _take_turns(
    args: argparse.Namespace, plan: RunPlan, loop: Any, device: "torch.device", stack: ExitStack
) -> tuple[dict[str, list[float]], dict[str, list[float]], dict[str, float]]:
    """Wall seconds and CPU seconds a step, every round, and the most GPU memory, by loop."""
    import torch

    from scaling.bench.bare_loop import BareLoop
    from scaling.train.scoring import build_planned

    bare = BareLoop(build_planned(plan.model).to(device), plan, device)
    with closing(loop.batches_after(0)) as batches:
        held = [next(batches) for _ in range(HELD_BATCHES)]
    from_shards = stack.enter_context(closing(loop.batches_after(0)))
    in_memory = itertools.cycle(held)
    numbers = itertools.count(1)
    steps: dict[str, Callable[[], Any]] = {
        BARE: lambda: bare.step(in_memory),
        TRAINER: lambda: loop.advance(next(numbers), in_memory),
        BARE_SHARDS: lambda: bare.step(from_shards),
        TRAINER_SHARDS: lambda: loop.advance(next(numbers), from_shards),
    }
    wall: dict[str, list[float]] = {name: [] for name in steps}
    cpu: dict[str, list[float]] = {name: [] for name in steps}
    memory = {}
    for round_number in range(args.rounds + 1):
        # Peers swap places every round, so that neither profits from what runs before it.
        for name in ORDERS[round_number % 2]:
            if device.type == "cuda":
                torch.cuda.reset_peak_memory_stats(device)
            wall_seconds, cpu_seconds = timed(steps[name], args.steps, device)
            if round_number:  # The first one warms up.
                wall[name].append(wall_seconds)
                cpu[name].append(cpu_seconds)
            if device.type == "cuda":
                memory[name] = torch.cuda.max_memory_allocated(device) / 1e9
    return wall, cpu, memory


def _figures(
    args: argparse.Namespace,
    plan: RunPlan,
    device: str,
    seconds: dict[str, list[float]],
    cpu_seconds: dict[str, list[float]],
    memory: dict[str, float],
    rows: list[dict[str, float]],
) -> dict[str, Any]:
    from scaling.train.reporting.hardware import peak_flops_per_second

    peak = peak_flops_per_second(device, plan.recipe.precision)
    rates = {name: plan.schedule.batch / statistics.median(times) for name, times in seconds.items()}
    waits = [
        row["data_wait_seconds"] for row in rows[3::2]
    ]  # After the warm-up's two, rows of memory and of shards alternate.
    return {
        "model": plan.model.name,
        "device": device,
        "step_seconds": seconds,
        "ratio": {name: ratio_summary(times, seconds[PEERS[name]]) for name, times in seconds.items()},
        "cpu_ratio": {name: ratio_summary(times, cpu_seconds[PEERS[name]]) for name, times in cpu_seconds.items()},
        "images_per_second": rates,
        "mfu": {name: rate * plan.model.flops_train_per_image / peak for name, rate in rates.items()} if peak else None,
        "memory_gb": memory or None,
        "data_wait": sum(waits) / (sum(seconds[TRAINER_SHARDS]) * args.steps),
        "settings": {
            "batch": plan.schedule.batch,
            "image_size": plan.model.image_size,
            "precision": plan.recipe.precision,
            "input": "photographs" if args.data else "synthetic images",
            "threads": args.threads,
            "steps": args.steps,
            "rounds": args.rounds,
            "set": args.set,
        },
        "machine": describe_machine(LIBRARIES),
    }


def _table(figures: dict[str, Any]) -> str:
    rows = []
    for name, ratio in figures["ratio"].items():
        row = [
            name,
            f"{1000 * statistics.median(figures['step_seconds'][name]):,.1f}",
            f"{figures['images_per_second'][name]:,.0f}",
            f"{ratio['median']:.3f}",
            f"{ratio['lower_quartile']:.3f}-{ratio['upper_quartile']:.3f}",
            f"{figures['cpu_ratio'][name]['median']:.3f}",
            f"{figures['mfu'][name]:.1%}" if figures["mfu"] else "unknown",
        ]
        rows.append([*row, f"{figures['memory_gb'][name]:.1f}"] if figures["memory_gb"] else row)
    columns = ["loop", "ms a step", "images/s", "ratio", "quartiles", "CPU-time ratio", "MFU"]
    return plain_table([*columns, "GB"] if figures["memory_gb"] else columns, rows)
