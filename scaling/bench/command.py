"""`python -m scaling.bench`: what this harness costs and gains, measured on the machine at hand.

Each sub-command is a module with `add_arguments(parser)` and `run(args)`; only the one that is called is loaded.
Options that several of them share are below.
"""

import argparse
import importlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from scaling.launch.options import above_zero
from scaling.records.attempts.provenance import describe_harness_source
from scaling.records.files import write_text_atomic

EPILOG = """\
examples:
  python -m scaling.bench pipeline data/photos/manifest.json
  python -m scaling.bench pipeline data/photos/manifest.json --decoders
  python -m scaling.bench pipeline --plan-only
  python -m scaling.bench training
  python -m scaling.bench checkpoint --model mixer-l/32
  python -m scaling.bench host --ranks 64
  python -m scaling.bench study
  python -m scaling.bench launch
  python -m scaling.bench analysis
  python -m scaling.bench fewshot
  python -m scaling.bench needs sweeps/data_size.yaml --devices 64 --mfu "*=0.35" --price 2.5
  python -m scaling.bench inference --models mixer-s/32 mixer-conv-s/32
  python -m scaling.bench inference --study runs/quickstart
"""

BENCHMARKS = {
    "pipeline": (
        "scaling.bench.pipeline.command",
        "images per second and core, beside the loaders of webdataset and timm",
    ),
    "training": ("scaling.bench.training", "cost of a training step, beside a loop of bare PyTorch"),
    "checkpoint": (
        "scaling.bench.checkpoints",
        "for how long training stands still, beside DeepSpeed's save_checkpoint",
    ),
    "host": ("scaling.bench.host_time", "CPU time of the engine in a step among simulated ranks, beside bare PyTorch"),
    "study": ("scaling.bench.study.command", "where the time of a whole study goes, from the command to the report"),
    "launch": (
        "scaling.bench.launching.command",
        "seconds of planning 28 and 10,000 runs, of two launchers that race, and of 1,000 array tasks of Slurm",
    ),
    "analysis": ("scaling.bench.analysis_time", "seconds and memory of reports of 1,000 runs, 60 models and of fits"),
    "fewshot": ("scaling.bench.fewshot", "seconds of the linear few-shot probe at ImageNet's size on one core"),
    "needs": (
        "scaling.bench.needs.command",
        "hours, cores, object store, disk and money of a study on a cluster",
    ),
    "page": ("scaling.bench.page.command", "BENCHMARKS.md from the figures of all of them"),
    "inference": (
        "scaling.bench.inference",
        "images per second of models, side by side or each at its best batch",
    ),
}


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(
        prog="python -m scaling.bench",
        description="Measure the harness on this machine.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    benchmarks = parser.add_subparsers(required=True, metavar="BENCHMARK")
    for name, (module_name, help_text) in BENCHMARKS.items():
        benchmark = benchmarks.add_parser(name, help=help_text, formatter_class=argparse.RawDescriptionHelpFormatter)
        if arguments[:1] == [name]:
            module = importlib.import_module(module_name)
            module.add_arguments(benchmark)
            benchmark.set_defaults(run=module.run)
    args = parser.parse_args(arguments)
    code: int = args.run(args)
    return code


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """How models are computed."""
    parser.add_argument("--image-size", type=above_zero, help="side of the input, pixels (default: the model's own)")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32", help="default: fp32")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="default: a GPU if any")
    parser.add_argument("--threads", type=above_zero, default=1, help="of the CPU arithmetic (default: 1)")


def model_settings(args: argparse.Namespace) -> list[str]:
    """What `add_model_options` asks of a run, as `key=value` of a sweep."""
    image_size = [f"defaults.image_size={args.image_size}"] if args.image_size else []
    return [f"defaults.precision={args.precision}", *image_size]


def add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", type=new_file, metavar="FILE", help="write the figures to a file as well")


def new_file(text: str) -> Path:
    """Type of an argument that names a file to be written, which is known before anything is measured."""
    path = Path(text)
    if path.is_dir():
        raise argparse.ArgumentTypeError(f"{text} is a folder; name a file")
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"{text}: the folder {path.parent} does not exist; make it first")
    return path


def write_json(figures: Mapping[str, Any], path: Path | None) -> None:
    """Write the figures to the file of `--json`, if it was given, with the code that was measured and how busy the
    machine was in the last minute."""
    if path is not None:
        harness = {"load_at_the_end": os.getloadavg()[0], **asdict(describe_harness_source())}
        write_text_atomic(path, json.dumps({**figures, **harness}, indent=2) + "\n")
