"""`python -m scaling.bench inference`: how fast models are, side by side or each alone on its device.

Without --search-batch the models take turns at one batch size, so that drifts of the machine meet all alike; each is
compared with the first in the same round, in inference and in a training step (forward, backward, clipping and AdamW
in bare PyTorch).

With --search-batch each model is measured in a process of its own, alone on its device, as the Mixer paper does: the
batch is doubled from --batch until nothing is gained or memory ends, and the best one is timed --repeats times. What
else the machine did meanwhile is in the row. `python -m analysis STUDY_DIR --throughput FILE` draws such rows.
"""

import argparse
from pathlib import Path

from scaling.bench.command import add_json, add_model_options
from scaling.errors import UserError
from scaling.launch.options import above_zero
from scaling.models.registry import check_name

EXAMPLES = """\
examples:
  python -m scaling.bench inference --models mixer-s/32 mixer-conv-s/32 --batch 4 --rounds 9
  python -m scaling.bench inference --models mixer-s/32 vit-s/32 --search-batch --rows throughput.jsonl
  python -m scaling.bench inference --study runs/quickstart
"""

DEFAULT_MODELS = ["mixer-s/32", "mixer-conv-s/32"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = __doc__
    parser.epilog = EXAMPLES
    parser.add_argument(
        "--models", nargs="+", metavar="NAME", help="default: one Mixer as matrix products and as convolutions"
    )
    parser.add_argument("--batch", type=above_zero, help="images at a time (4), or the first batch tried (32)")
    add_model_options(parser)
    parser.set_defaults(precision=None, threads=None)
    add_json(parser)
    beside = parser.add_argument_group("side by side")
    beside.add_argument("--passes", type=above_zero, default=3, help="per model and round (default: 3)")
    beside.add_argument("--rounds", type=above_zero, default=9, help="default: 9")
    alone = parser.add_argument_group("each model alone (--search-batch)")
    alone.add_argument("--search-batch", action="store_true", help="find each model's fastest batch")
    alone.add_argument(
        "--study",
        type=Path,
        metavar="STUDY_DIR",
        help="measure the models of this study as it trains them, on as many threads; rows go to its throughput.jsonl",
    )
    alone.add_argument("--training", action="store_true", help="measure training steps as well")
    alone.add_argument("--largest-batch", type=above_zero, default=8192, help="default: 8192")
    alone.add_argument("--repeats", type=above_zero, default=5, help="timings of the best batch (default: 5)")
    alone.add_argument("--seconds", type=_seconds, default=0.4, help="least length of a timing (default: 0.4)")
    alone.add_argument(
        "--compile",
        choices=("none", "default", "reduce-overhead", "max-autotune"),
        help="mode of torch.compile (default: none, or as the study has it)",
    )
    alone.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="as in scaling.launch")
    alone.add_argument(
        "--rows", type=Path, metavar="FILE", help="add the rows to this file, and keep those that it holds already"
    )
    alone.add_argument("--again", action="store_true", help="measure again what the file holds already")


def run(args: argparse.Namespace) -> int:
    if args.study is not None and args.models:
        raise UserError("--study measures the models of that study; leave --models out, or --study")
    for name in args.models or ():
        check_name(name)
    if args.search_batch or args.study is not None:
        from scaling.bench.throughput.command import run_alone

        return run_alone(args)
    for name, given in (("--rows", args.rows), ("--training", args.training), ("--compile", args.compile)):
        if given:
            raise UserError(f"{name} belongs to --search-batch; add that, or leave {name} out")
    args.models = args.models or DEFAULT_MODELS
    args.batch, args.threads, args.precision = args.batch or 4, args.threads or 1, args.precision or "fp32"
    from scaling.bench.throughput import side_by_side

    return side_by_side.run(args)


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds <= 3600:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 3600 seconds")
    return seconds
