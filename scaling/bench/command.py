"""`python -m scaling.bench`: what this harness costs and gains, measured on the machine at hand.

Each sub-command is a module with `add_arguments(parser)` and `run(args)`; only the one that is called is loaded.
"""

import argparse
import importlib
import sys
from collections.abc import Sequence

EPILOG = """\
examples:
  python -m scaling.bench pipeline data/photos/manifest.json
  python -m scaling.bench pipeline --plan-only
  python -m scaling.bench training
  python -m scaling.bench launch
  python -m scaling.bench needs sweeps/data_size.yaml --devices 64 --mfu "*=0.35" --price 2.5
  python -m scaling.bench inference mixer-s/32 mixer-conv-s/32
"""

BENCHMARKS = {
    "pipeline": ("scaling.bench.pipeline", "images per second and core, beside webdataset's and timm's loaders"),
    "training": ("scaling.bench.training", "cost of a training step, beside a loop of bare PyTorch"),
    "launch": ("scaling.bench.launching", "seconds of planning 28 and 10,000 runs, and of 1,000 array tasks of Slurm"),
    "needs": ("scaling.bench.needs", "hours, cores, object store, disk and money of a study on a cluster, as a page"),
    "inference": ("scaling.bench.inference", "images per second of models side by side, in inference and training"),
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
