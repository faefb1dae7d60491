"""`python -m scaling.bench host`: what the engine costs the host in a step, by itself and among simulated ranks.

On a GPU the host only launches kernels, and no step can be shorter than that takes. What it takes depends on the
number of parameter tensors, hardly on their sizes. So the model keeps its layers and gets a width at which arithmetic
costs next to nothing, the ranks are one process in PyTorch's `fake` group, whose collectives return at once, and CPU
time is counted. Every setting has a process of its own, in which the engine takes turns with a loop of bare PyTorch.
"""

import argparse
import itertools
import multiprocessing
import os
import statistics
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scaling.bench.command import add_json, write_json
from scaling.bench.machine import describe_machine, prepare_device, ratio_summary, timed
from scaling.errors import UserError
from scaling.launch.options import above_zero
from scaling.models.family import Family
from scaling.models.registry import find_model, register_family
from scaling.models.shapes import BitShape, MixerShape, VitShape
from scaling.readable import plain_table

if TYPE_CHECKING:
    from scaling.models.networks.vision_model import VisionModel

LIBRARIES = ("torch", "deepspeed", "timm", "numpy")

PATCH_SIZE, WIDTH, NUM_CLASSES, ROWS = 16, 16, 10, 2
"""Of the narrow model, and images of a step on each rank."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command line takes."""
    parser.description = __doc__
    parser.epilog = "example:\n  python -m scaling.bench host --model vit-l/16 --ranks 512"
    parser.add_argument("--model", default="mixer-l/16", help="whose layers are taken (default: mixer-l/16)")
    parser.add_argument("--ranks", type=int, default=64, help="simulated (default: 64)")
    parser.add_argument(
        "--zero-stages", type=int, nargs="+", choices=(0, 1, 2), default=[0, 1, 2], help="default: all, 0 1 2"
    )
    parser.add_argument("--steps", type=above_zero, default=5, help="per loop and round (default: 5)")
    parser.add_argument("--rounds", type=above_zero, default=15, help="default: 15")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Measure and print; returns the exit code."""
    if args.ranks < 2:
        raise UserError(f"--ranks {args.ranks}: simulate at least 2; one process alone is measured in any case")
    figures = measure(args)
    print(
        plain_table(
            ["ranks", "ZeRO", "bare loop, ms a step", "engine, ms a step", "ratio", "engine's own, us a tensor"],
            [
                [
                    str(case["ranks"]),
                    str(case["zero_stage"]),
                    f"{1000 * statistics.median(case['bare_seconds']):.1f}",
                    f"{1000 * statistics.median(case['engine_seconds']):.1f}",
                    f"{case['ratio']['median']:.2f}",
                    f"{own_microseconds(case, figures['tensors']):.0f}",
                ]
                for case in figures["cases"]
            ],
        )
    )
    print(f"{figures['model']}: {figures['tensors']} parameter tensors, CPU time of one thread")
    write_json(figures, args.json)
    return 0


def own_microseconds(case: dict[str, Any], tensors: int) -> float:
    """What the engine adds to the bare loop's step for each parameter tensor, microseconds of CPU time."""
    engine, bare = (statistics.median(case[f"{loop}_seconds"]) for loop in ("engine", "bare"))
    return float(engine - bare) / tensors * 1e6


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """CPU seconds of a step of both loops, every round, for each number of ranks and ZeRO stage."""
    narrow_family(args.model)  # A model that cannot be narrowed is refused before anything starts.
    settings = [(1, 0), *((args.ranks, stage) for stage in args.zero_stages)]
    # A process can join one group only.
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), max_tasks_per_child=1) as pool:
        found = [pool.submit(measure_case, args.model, *case, args.steps, args.rounds).result() for case in settings]
    return {
        "model": args.model,
        "tensors": found[0].pop("tensors"),
        "cases": [{name: value for name, value in case.items() if name != "tensors"} for case in found],
        "settings": {"steps": args.steps, "rounds": args.rounds},
        "machine": describe_machine(LIBRARIES),
    }


def narrow_family(model: str) -> Family:
    """A family of one model, `narrow`, with the layers of `model` and next to no width."""
    family, spec = find_model(model)
    shape = spec.shape
    if isinstance(shape, MixerShape):
        sizes = {"hidden_dim": WIDTH, "token_mlp_dim": WIDTH // 2, "channel_mlp_dim": 4 * WIDTH}
        shape = replace(shape, patch_size=PATCH_SIZE, **sizes)
    elif isinstance(shape, VitShape):
        shape = replace(shape, patch_size=PATCH_SIZE, hidden_dim=shape.num_heads)
    elif isinstance(shape, BitShape):
        channels = tuple(WIDTH * 2**stage for stage in range(len(shape.channels)))
        shape = replace(shape, channels=channels, width_factor=1, num_groups=2)
    else:
        raise UserError(f"--model {model}: only models of the families mixer, vit, bit and mixer-conv can be narrowed")
    narrow = replace(spec, name="narrow", image_size=2 * PATCH_SIZE, shape=shape)
    return replace(family, name="narrow", models=(narrow,))


def measure_case(model: str, ranks: int, zero_stage: int, steps: int, rounds: int) -> dict[str, Any]:
    """One setting, in this process."""
    prepare_device("cpu")
    import torch

    from scaling.bench.bare_loop import BareLoop
    from scaling.bench.planned_trainer import make_images, plan_trainers
    from scaling.data.read.loader import Batch
    from scaling.train.step.engine import build_engine
    from scaling.train.step.rules import plan_batching

    torch.set_num_threads(1)
    _join_fake_group(ranks)
    register_family(narrow_family(model))
    settings = [f"defaults.zero_stage={zero_stage}", f"defaults.micro_batch={ROWS}", "defaults.precision=fp32"]
    with tempfile.TemporaryDirectory() as folder:
        manifest = make_images(Path(folder), 2 * PATCH_SIZE)
        named = ["mixer-laptop-32px"]  # Only its recipe and schedule are used.
        (plan,) = plan_trainers(Path(folder), manifest, named, ROWS * ranks, log_steps=steps, settings=settings)
    cpu = torch.device("cpu")
    engine = build_engine(_build(), plan, plan_batching(plan.schedule.batch, ranks, ROWS), cpu, rank=0)
    bare = BareLoop(_build(), plan, cpu)
    side = 2 * PATCH_SIZE
    held = Batch(torch.zeros((ROWS, 3, side, side), dtype=torch.uint8), torch.zeros(ROWS, 1, dtype=torch.int64), 0, ())
    numbers = itertools.count(1)
    loops: dict[str, Callable[[], Any]] = {
        "bare_seconds": lambda: bare.step(itertools.repeat(held)),
        "engine_seconds": lambda: engine.train_step(next(numbers), held.images, held.labels),
    }
    seconds: dict[str, list[float]] = {name: [] for name in loops}
    for round_number in range(rounds + 1):
        for name in sorted(loops, reverse=bool(round_number % 2)):
            cpu_seconds = timed(loops[name], steps, cpu)[1]
            if round_number:  # The first one warms up.
                seconds[name].append(cpu_seconds)
    return {
        "ranks": ranks,
        "zero_stage": zero_stage,
        "tensors": sum(1 for _ in engine.model.parameters()),
        **seconds,
        "ratio": ratio_summary(seconds["engine_seconds"], seconds["bare_seconds"]),
    }


def _build() -> "VisionModel":
    from scaling.models.build import build_model

    return build_model("narrow", num_classes=NUM_CLASSES, image_size=2 * PATCH_SIZE)


def _join_fake_group(ranks: int) -> None:
    """Be rank 0 of so many, none of which is there."""
    import deepspeed
    import torch.distributed
    from torch.testing._internal.distributed.fake_pg import FakeStore

    from scaling.train.processes.placement import Placement
    from scaling.train.processes.process_group import leave_out_shared_memory_operator

    os.environ.update(Placement(world=ranks, master_address="127.0.0.1", master_port=1).environment())
    leave_out_shared_memory_operator()
    torch.distributed.init_process_group("fake", rank=0, world_size=ranks, store=FakeStore())
    deepspeed.init_distributed(dist_backend="gloo", auto_mpi_discovery=False, verbose=False)
