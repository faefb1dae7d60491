"""`python -m scaling.bench.gpu.probe WHAT MODEL BATCH [KEY=VALUE ...]`: one model's bf16 steps on one device.

dtype   that layers compute in bf16 inside the engine
syncs   as dtype, with a warning for every time a step waits for the device, and the rate of steps
timm    timm's own model in a bare loop, eager and compiled, beside which ours is read
ckpt    seconds to copy, write and restore a checkpoint
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import scaling.train.processes.preload  # noqa: F401

# isort: split
import torch
from torch import nn

from scaling.bench.planned_trainer import make_engine, make_images, open_store, plan_trainers
from scaling.records.run_plan import RunPlan
from scaling.train.checkpoints.checkpoint import Progress
from scaling.train.processes.process_group import Processes, join_processes
from scaling.train.reporting.hardware import peak_flops_per_second
from scaling.train.reporting.recorder import device_name
from scaling.train.step.engine import Engine


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m scaling.bench.gpu.probe", description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["dtype", "syncs", "timm", "ckpt"])
    parser.add_argument("model", help="a model's name, such as mixer-l/16")
    parser.add_argument("batch", type=int, help="images a step")
    parser.add_argument("settings", nargs="*", metavar="KEY=VALUE", help="as scaling.launch --set takes them")
    parser.add_argument("--timm-model", default="mixer_l16_224", help="timm's name of the model (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=20, help="timed steps (default: 20)")
    args = parser.parse_args(argv)
    settings = ["defaults.precision=bf16", f"defaults.micro_batch={args.batch}", *args.settings]
    with tempfile.TemporaryDirectory() as name, join_processes() as processes:
        folder = Path(name)
        (plan,) = plan_trainers(
            folder, make_images(folder, 64), [args.model], args.batch, log_steps=1, settings=settings
        )
        if args.what == "timm":
            _timm(plan, args.timm_model, args.batch, args.repeats, processes)
            return 0
        engine = make_engine(plan, processes)
        _probe(engine, args.what, args.batch, args.repeats, folder, processes)
    return 0


def _probe(engine: Engine, what: str, batch: int, repeats: int, folder: Path, processes: Processes) -> None:
    plan, side = engine.plan, engine.plan.model.image_size
    images = torch.randint(0, 255, (batch, 3, side, side), dtype=torch.uint8)
    images = images.contiguous(memory_format=torch.channels_last)
    labels = torch.zeros(batch, 1, dtype=torch.int64)
    seen: set[str] = set()
    # The head is left out: in timm's layouts it may be the only layer that is read in fp32.
    linear = next(module for module in engine.model.body.modules() if isinstance(module, nn.Linear | nn.Conv2d))
    hook = linear.register_forward_hook(lambda module, inputs, output: seen.add(str(output.dtype)))
    engine.train_step(1, images, labels)
    hook.remove()
    print(f"{plan.model.name}: a layer's output inside the engine is {', '.join(sorted(seen))}")
    if seen != {"torch.bfloat16"}:
        sys.exit("autocast is switched off inside DeepSpeed")
    if what == "dtype":
        return
    step = iter(range(2, 10**6))
    if what == "syncs":
        for _ in range(3):
            engine.train_step(next(step), images, labels)
        if processes.device.type == "cuda":
            torch.cuda.set_sync_debug_mode("warn")
            engine.train_step(next(step), images, labels)
            torch.cuda.set_sync_debug_mode("default")
    _print_rate("engine", _rate(lambda: engine.train_step(next(step), images, labels), batch, repeats), plan, processes)
    if what == "ckpt":
        _checkpoint(engine, folder, processes)


def _checkpoint(engine: Engine, folder: Path, processes: Processes) -> None:
    run_dir = folder / "run"
    with open_store(run_dir, engine.plan, processes) as (store, _):
        copied, written = [], []
        for step in (1, 2):  # The first copy takes the host's memory as well.
            copied.append(_seconds(partial(store.save, engine, Progress(step=step))))
            written.append(_seconds(lambda: list(store.outcomes(to_the_end=True))))
        size = sum(path.stat().st_size for path in run_dir.rglob("*/*.safetensors")) / 2e9
        restored = _seconds(lambda: store.restore(engine))
    print(
        f"checkpoint of {size:.1f} GB: copied in {copied[1]:.2f} s (the first in {copied[0]:.2f} s), "
        f"written in {written[1]:.1f} s, restored in {restored:.1f} s"
    )


def _timm(plan: RunPlan, name: str, batch: int, repeats: int, processes: Processes) -> None:
    import timm

    device, side = processes.device, plan.model.image_size
    model = timm.create_model(name).to(device).train()
    images = torch.randn(batch, 3, side, side, device=device)
    labels = torch.zeros(batch, dtype=torch.int64, device=device)
    for is_compiled in (False, True):
        forward = torch.compile(model) if is_compiled else model
        optimizer = torch.optim.AdamW(model.parameters(), fused=device.type == "cuda")

        def step(forward: Callable[..., torch.Tensor] = forward, optimizer: torch.optim.Optimizer = optimizer) -> None:
            optimizer.zero_grad()
            with torch.autocast(device.type, dtype=torch.bfloat16):
                loss = nn.functional.cross_entropy(forward(images), labels)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()

        _print_rate(f"timm, {'compiled' if is_compiled else 'eager'}", _rate(step, batch, repeats), plan, processes)


def _rate(step: Callable[[], object], batch: int, repeats: int) -> float:
    """Images per second."""
    for _ in range(5):
        step()
    return batch * repeats / _seconds(lambda: [step() for _ in range(repeats)])


def _seconds(work: Callable[[], object]) -> float:
    wait = torch.cuda.synchronize if torch.cuda.is_available() else (lambda: None)
    wait()
    started = time.perf_counter()
    work()
    wait()
    return time.perf_counter() - started


def _print_rate(what: str, rate: float, plan: RunPlan, processes: Processes) -> None:
    peak = peak_flops_per_second(device_name(processes.device), "bf16")
    share = f", MFU {rate * plan.model.flops_train_per_image / peak:.1%}" if peak else ""
    print(f"{what}: {rate:,.0f} images/s{share}")


if __name__ == "__main__":
    sys.exit(main())
