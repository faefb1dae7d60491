"""The options of `python -m scaling.launch`."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from scaling.spec.recipe import recipe_names

EPILOG = """\
example:
  python -m scaling.launch sweeps/quickstart.yaml
  python -m scaling.launch sweeps/quickstart.yaml --dry-run
  python -m scaling.launch sweeps/quickstart.yaml --set grid.seed=[0,1,2] --max-parallel 1
  python -m scaling.launch sweeps/quickstart.yaml --cancel vit-laptop-32px-patch4_003pct_s0-f14373e1

Running the same command again continues the study: finished runs are kept, killed ones continue from their last
checkpoint, those that another launcher runs are waited for, failed ones are tried again with --retry-failed.

A sweep with a section tune searches hyper-parameters before its runs (search: random, grid or optuna; scheduler: none
or asha), on every back end: sweeps/tune.yaml.

Ctrl-C, SIGTERM and SIGUSR1 save a checkpoint of every run on this machine. Jobs of a cluster keep running: on a
terminal Ctrl-C asks whether to leave them or to let them save and stop; a second Ctrl-C, SIGTERM and a launcher without
a terminal leave them.
exit code: 0 all runs done (with --detach: submitted), 1 some runs failed or are not finished, 2 bad input, 130 stopped.
"""


def read_options(argv: Sequence[str] | None) -> argparse.Namespace:
    """The parsed command line; leaves the program with code 2 when it is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m scaling.launch",
        description="Plan every run of a study, train what is missing, score it and draw the report.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("sweep", type=Path, nargs="?", metavar="SWEEP.yaml", help="the study")
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="print every planned run and its cost, train nothing (built-in data that is missing is made)",
    )
    parser.add_argument("--json", action="store_true", help="print the plan and where each run stands as JSON")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="override one value of the sweep"
    )
    parser.add_argument("--out", type=Path, default=Path("runs"), metavar="RUNS", help="results folder (default: runs)")
    parser.add_argument(
        "--backend", metavar="NAME", help="local, slurm, ray or that of a package (default: the sweep's launch.backend)"
    )
    parser.add_argument("--max-parallel", type=above_zero, metavar="N", help="at most this many runs at a time")
    parser.add_argument(
        "--retry-failed", action="store_true", help="start runs again that ended with an error or were cancelled"
    )
    parser.add_argument(
        "--no-report", dest="report", action="store_false", help="draw no report at the end: python -m analysis does"
    )
    parser.add_argument("--detach", action="store_true", help="submit the runs and leave; they continue by themselves")
    parser.add_argument(
        "--cancel",
        nargs="+",
        default=[],
        metavar="RUN",
        help="stop these runs (ids, beginnings of them, folders, or 'all'): they save a checkpoint and leave",
    )
    parser.add_argument("--recipes", action="store_true", help=f"print the named recipes: {', '.join(recipe_names())}")
    parser.add_argument("--print-schema", action="store_true", help="print the JSON schema of sweep files and exit")
    args = parser.parse_args(argv)
    if args.dry_run and args.cancel:
        parser.error("--dry-run changes nothing, and --cancel stops runs; leave one of them out")
    if args.detach and args.json:
        parser.error("--json tells how a study ended, and --detach does not wait for it; leave one of them out")
    return args


def above_zero(text: str) -> int:
    """Type of an argument that counts something."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return number
