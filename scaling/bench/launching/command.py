"""How long a person waits for a launcher: for plans (`scaling.launch --dry-run` in fresh processes, from their start to
their end), for two launchers that race (`racing`), and for a thousand array tasks of a real Slurm (`slurm_tasks`).

    quickstart       the quickstart's 24 runs, on manifests of a million images in 1,000 shards
    data_size        Figure 2 of the Mixer paper, 28 runs of JFT-300M declared by count
    runs             many runs of the quickstart's three models, on those manifests
    runs, json       the same as JSON

Time is that of the wall and of the processor, which on a busy machine tell more together; memory is the peak of the
process. PyTorch must not be loaded by any of them.
"""

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scaling.bench.command import add_json, write_json
from scaling.bench.launching.racing import measure_race
from scaling.bench.launching.slurm_tasks import NUM_TASKS, measure_slurm
from scaling.data.format.manifest import LabelType, build_manifest, declare_manifest
from scaling.launch.options import above_zero
from scaling.readable import plain_table

NUM_RUNS = 10_000
NUM_SHARDS, SHARD_SAMPLES, NUM_CLASSES = 1_000, 1_000, 1_000

PLAN = """
import json, resource, sys
from scaling.errors import run_command
from scaling.launch.command import main
code = run_command(main, sys.argv[2:])
used = resource.getrusage(resource.RUSAGE_SELF)
# Not ru_maxrss, which begins with what the parent had.
peak = int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) * 1024
facts = {"code": code, "cpu": used.ru_utime + used.ru_stime, "peak": peak, "torch": "torch" in sys.modules}
with open(sys.argv[1], "w") as stream:
    json.dump(facts, stream)
"""

JFT = """\
study: data_size
data: {{root: {root}, train: jft.json, val: jft-val.json}}
protocol: {{kind: constant_epochs, epochs: 7, batch: 4096}}
defaults: {{precision: bf16}}
grid: {{model: [mixer-b/32, mixer-l/32, mixer-l/16, vit-b/32, vit-l/32, vit-l/16, bit-r152x2]}}
zip: {{fraction: [0.03, 0.1, 0.3, 1.0], protocol.epochs: [233, 70, 23, 7]}}
overrides:
  - {{match: {{model: "mixer-*"}}, set: {{recipe: mixer-jft}}}}
  - {{match: {{model: "vit-*"}}, set: {{recipe: vit-jft}}}}
  - {{match: {{model: "bit-*"}}, set: {{recipe: bit-jft}}}}
launch: {{devices_per_run: 8}}
"""

MANY = """\
study: many
data: {{root: {root}, train: train.json, val: val.json}}
protocol: {{kind: constant_steps, steps: 600, batch: 32}}
defaults: {{learning_rate: 3.0e-3, warmup: 10%}}
grid:
  model: [mixer-laptop-32px, vit-laptop-32px, bit-laptop-32px]
  fraction: [0.03, 0.1, 0.3, 1.0]
  seed: {seeds}
overrides:
  - match: {{model: "vit-*"}}
    set: {{learning_rate: 1.0e-3, model_options: {{pre_logits: none}}}}
evals:
  - {{kind: fewshot, support: support.json, test: test.json, shots: [5]}}
"""


PLAN_COLUMNS = ("wall s", "CPU s", "peak MB", "loads PyTorch")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command line takes."""
    parser.description = __doc__
    parser.epilog = "example:\n  python -m scaling.bench launch --rounds 5 --json planning.json"
    parser.add_argument(
        "--runs", type=above_zero, default=NUM_RUNS, help=f"runs of the large study (default: {NUM_RUNS:,})"
    )
    parser.add_argument("--rounds", type=above_zero, default=3, help="default: 3")
    parser.add_argument(
        "--slurm",
        choices=("own", "here", "none"),
        default="own",
        help="where to submit a thousand array tasks that never run: to a Slurm of virtual nodes that is started for "
        "it, to the one that this machine talks to, or nowhere (default: own)",
    )
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Measure and print; returns the exit code."""
    figures = measure_launch(args.runs, args.rounds)
    print(plain_table(["plan", *PLAN_COLUMNS], [[name, *plan_cells(case)] for name, case in figures["cases"].items()]))
    figures["race"] = race = measure_race(args.rounds)
    rows = [[name, f"{seconds:.1f}"] for name, seconds in race["wall_seconds"].items()]
    print("\n" + plain_table([f"{race['runs']} small runs trained by", "wall s"], rows))
    print(f"most attempts at a run: {race['most_attempts']}")
    if args.slurm != "none":
        figures["slurm"] = _measure_slurm(args.slurm)
    write_json(figures, args.json)
    return 0


def plan_cells(case: Mapping[str, Any]) -> tuple[str, ...]:
    """What was measured of planning, as `PLAN_COLUMNS`."""
    return (
        f"{case['wall_seconds']:.2f}",
        f"{case['cpu_seconds']:.2f}",
        f"{case['peak_bytes'] / 1e6:,.0f}",
        "yes" if case["loads_torch"] else "no",
    )


def measure_launch(num_runs: int, rounds: int) -> dict[str, Any]:
    """The median wall and CPU seconds and the highest peak of every case."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sweeps = _write_study(folder, num_runs)
        cases = {
            "quickstart, 24 runs": [str(sweeps["quickstart"])],
            "data_size, 28 runs": [str(sweeps["jft"])],
            f"{num_runs:,} runs": [str(sweeps["many"])],
            f"{num_runs:,} runs, json": [str(sweeps["many"]), "--json"],
        }
        measured = {title: [_plan(folder, options) for _ in range(rounds)] for title, options in cases.items()}
    return {
        "cases": {title: _summary(samples) for title, samples in measured.items()},
        "rounds": rounds,
        "cores": os.cpu_count(),
        "python": sys.version.split()[0],
    }


def _measure_slurm(where: str) -> dict[str, float] | None:
    """Seconds of what a launcher does with a thousand array tasks, printed; None where there is no Slurm."""
    with tempfile.TemporaryDirectory() as name:
        sweeps = _write_study(Path(name), NUM_TASKS)
        found = measure_slurm(sweeps["many"], where)
    if isinstance(found, str):
        print(f"\n{found}, so the figures of {NUM_TASKS:,} array tasks are left out")
        return None
    rows = [[step, f"{seconds:.2f}"] for step, seconds in found.items()]
    print("\n" + plain_table([f"{NUM_TASKS:,} array tasks of Slurm", "wall s"], rows))
    return found


def _summary(samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {
        "wall_seconds": statistics.median(sample["wall"] for sample in samples),
        "cpu_seconds": statistics.median(sample["cpu"] for sample in samples),
        "peak_bytes": max(sample["peak"] for sample in samples),
        "loads_torch": any(sample["torch"] for sample in samples),
    }


def _plan(folder: Path, options: Sequence[str]) -> dict[str, Any]:
    """One dry run in a process of its own."""
    facts = folder / "facts.json"
    command = [sys.executable, "-c", PLAN, str(facts), *options, "--dry-run", "--out", str(folder / "runs")]
    started = time.perf_counter()
    answer = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
    wall = time.perf_counter() - started
    found: dict[str, Any] = json.loads(facts.read_text()) if answer.returncode == 0 else {"code": answer.returncode}
    if found["code"] != 0:
        raise RuntimeError(f"planning failed:\n{answer.stderr}")
    return found | {"wall": wall}


def _write_study(folder: Path, num_runs: int) -> dict[str, Path]:
    """The sweeps and the manifests that they name."""
    declare_manifest("JFT-300M", "multi", 18_291, 302_000_000, folder).save(folder / "jft.json")
    declare_manifest("JFT-300M held out", "multi", 18_291, 50_000, folder).save(folder / "jft-val.json")
    splits: tuple[tuple[str, LabelType, int], ...] = (
        ("train", "multi", NUM_SHARDS),
        ("val", "multi", 10),
        # They exist on paper alone, and planning would open smaller ones to compare their images.
        ("support", "single", 60),
        ("test", "single", 60),
    )
    for name, label_type, num_shards in splits:
        build_manifest(
            name=name,
            label_type=label_type,
            classes=[f"class {number}" for number in range(NUM_CLASSES)],
            folder=folder,
            urls=[f"{name}-{number:06d}.tar" for number in range(num_shards)],
            num_samples=[SHARD_SAMPLES] * num_shards,
            num_bytes=[100_000_000] * num_shards,
            sha256=[hashlib.sha256(f"{name} {number}".encode()).hexdigest() for number in range(num_shards)],
            origin={},
        ).save(folder / f"{name}.json")
    sweeps = {name: folder / f"{name}.yaml" for name in ("jft", "quickstart", "many")}
    root = json.dumps(str(folder))
    sweeps["jft"].write_text(JFT.format(root=root))
    sweeps["quickstart"].write_text(MANY.format(root=root, seeds=[0, 1]))
    sweeps["many"].write_text(MANY.format(root=root, seeds=list(range(max(1, -(-num_runs // 12))))))
    return sweeps
