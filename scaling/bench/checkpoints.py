"""`python -m scaling.bench checkpoint`: for how long training stands still for a checkpoint.

The same engine saves in turns: by DeepSpeed's own `save_checkpoint`, which returns when its files are written, not
flushed; by ours, waited for until it is flushed, checked and published; and by ours beside the steps. There the time
that training stands still is told apart from the time until the checkpoint is on the disk, and steps in the meantime
are compared with steps without.
"""

import argparse
import itertools
import shutil
import statistics
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from scaling.bench.command import add_json, add_model_options, model_settings, write_json
from scaling.bench.machine import describe_machine, prepare_device
from scaling.launch.options import above_zero
from scaling.readable import plain_table

DEEPSPEED, WAITED, BESIDE = "DeepSpeed save_checkpoint", "ours, waited for", "ours, beside the steps"

LIBRARIES = ("torch", "deepspeed", "safetensors", "numpy")

STEPS = 3
"""Timed without a checkpoint, every round."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command line takes."""
    parser.description = __doc__
    parser.epilog = "example:\n  python -m scaling.bench checkpoint --model mixer-l/32 --batch 2 --rounds 3"
    parser.add_argument("--model", default="mixer-b/32", help="default: mixer-b/32")
    parser.add_argument("--batch", type=above_zero, default=2, help="images a step (default: 2)")
    add_model_options(parser)
    parser.add_argument("--rounds", type=above_zero, default=3, help="default: 3")
    parser.add_argument("--dir", type=Path, metavar="DIR", help="write on this disk (default: that of temporary files)")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="as in scaling.launch")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Measure and print; returns the exit code."""
    figures = measure(args)
    print(
        plain_table(
            ["checkpoint", "stands still, s", "range", "ratio", "on the disk after, s"],
            [
                [
                    name,
                    f"{statistics.median(seconds):.2f}",
                    f"{min(seconds):.2f}-{max(seconds):.2f}",
                    f"{figures['ratio'][name]:.3f}",
                    f"{statistics.median(figures['written_seconds'][name]):.1f}",
                ]
                for name, seconds in figures["stop_seconds"].items()
            ],
        )
    )
    print(
        f"{figures['model']}: {figures['parameters'] / 1e6:,.0f} M parameters, {figures['gigabytes']:.2f} GB; a step "
        f"takes {figures['step_seconds']:.2f} s, and {figures['step_seconds_beside']:.2f} s beside the writing"
    )
    write_json(figures, args.json)
    return 0


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Seconds of every kind of saving, every round, and what follows from them."""
    prepare_device(args.device)
    import torch

    from scaling.bench.planned_trainer import make_engine, make_images, open_store, plan_trainers
    from scaling.train.checkpoints.checkpoint import Progress
    from scaling.train.processes.process_group import join_processes
    from scaling.train.reporting.recorder import device_name

    torch.set_num_threads(args.threads)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=args.dir)))
        processes = stack.enter_context(join_processes(may_use_gpu=args.device != "cpu"))
        settings = [*model_settings(args), "defaults.keep_checkpoints=1", *args.set]
        manifest = make_images(folder, 64)
        (plan,) = plan_trainers(folder, manifest, [args.model], args.batch, log_steps=1, settings=settings)
        engine, run_dir = make_engine(plan, processes), folder / "run"
        store, _ = stack.enter_context(open_store(run_dir, plan, processes))
        side = plan.model.image_size
        images = torch.randint(0, 256, (args.batch, 3, side, side), dtype=torch.uint8)
        labels = torch.zeros(args.batch, 1, dtype=torch.int64)
        numbers = itertools.count(1)

        def step() -> float:
            began = time.perf_counter()
            loss, _ = engine.train_step(next(numbers), images, labels)
            loss.item()  # Waits for the device.
            return time.perf_counter() - began

        def save(number: int) -> float:
            began = time.perf_counter()
            store.save(engine, Progress(step=number))
            return time.perf_counter() - began

        stops: dict[str, list[float]] = {DEEPSPEED: [], WAITED: [], BESIDE: []}
        written: dict[str, list[float]] = {DEEPSPEED: [], WAITED: [], BESIDE: []}
        alone, beside = [], []
        step()
        for number in range(args.rounds + 1):
            alone += [step() for _ in range(STEPS)]
            began = time.perf_counter()
            engine.deepspeed_engine.save_checkpoint(str(folder / "deepspeed"), tag="bench", save_latest=False)
            stops[DEEPSPEED].append(time.perf_counter() - began)
            written[DEEPSPEED].append(stops[DEEPSPEED][-1])
            shutil.rmtree(folder / "deepspeed")
            began = time.perf_counter()
            save(2 * number + 1)
            list(store.outcomes(to_the_end=True))
            stops[WAITED].append(time.perf_counter() - began)
            written[WAITED].append(stops[WAITED][-1])
            began = time.perf_counter()
            stops[BESIDE].append(save(2 * number + 2))
            while not list(store.outcomes()):
                beside.append(step())
            written[BESIDE].append(time.perf_counter() - began)
            if number == 0:  # The first round takes memory and files for the first time.
                alone, beside = [], []
                for seconds in (*stops.values(), *written.values()):
                    seconds.clear()
        size = sum(path.stat().st_size for path in run_dir.rglob("step_*/*.safetensors")) / 1e9
        return {
            "model": plan.model.name,
            "parameters": plan.model.num_params,
            "gigabytes": size,
            "device": device_name(processes.device),
            "stop_seconds": stops,
            "written_seconds": written,
            "ratio": {
                name: statistics.median(a / b for a, b in zip(seconds, stops[DEEPSPEED], strict=True))
                for name, seconds in stops.items()
            },
            "step_seconds": statistics.median(alone),
            "step_seconds_beside": statistics.median(beside),
            "settings": {"batch": args.batch, "threads": args.threads, "rounds": args.rounds, "set": args.set},
            "machine": describe_machine(LIBRARIES),
        }
