"""The command line of `python -m scaling.evaluate`: which weights, which evaluations, and the table of their numbers.

Nothing is written: a run's own record grows only by planning it with further evaluations and launching it again.
"""

import argparse
import json
import logging
import sys
from collections.abc import Mapping, Sequence

from scaling.data.tools.commands.access import add_cache, add_storage, read_access
from scaling.evals.request import Request, read_request
from scaling.evals.settings import EVALUATIONS
from scaling.tables import plain_table

EPILOG = """\
examples:
  python -m scaling.evaluate runs/quickstart/mixer-laptop-32px_100pct_s0-1f3a9c2e
  python -m scaling.evaluate runs/quickstart/mixer-laptop-32px_100pct_s0-1f3a9c2e --eval fewshot --set shots=[1,5,10]
  python -m scaling.evaluate Mixer-B_16.npz --model mixer-b/16 --eval fewshot --set support=a.json --set test=b.json

exit code: 0 done, 2 bad input.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    args = _parser().parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    request = read_request(
        args.target,
        names=args.eval,
        options=args.set,
        model=args.model,
        image_size=args.image_size,
        model_options=args.option,
        precision=args.precision,
        loader_threads=args.loader_threads,
        access=read_access(args.storage, args.cache, args.cache_gb),
    )
    metrics = _compute(request, args.threads)
    if args.json:
        print(json.dumps({"weights": request.weights, "model": request.model.name, "metrics": metrics}, indent=2))
    else:
        print(plain_table(["metric", "value"], [[name, _readable(name, value)] for name, value in metrics.items()]))
    return 0


def _compute(request: Request, threads: int | None) -> Mapping[str, float]:
    """Import PyTorch only now, so that help and errors come at once."""
    from scaling.evals.compute import compute

    return compute(request, threads)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m scaling.evaluate",
        description="Score the kept weights of a run, or any weights of a known model.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "target", metavar="RUN_DIR|WEIGHTS", help="a trained run, or a .safetensors or .npz file, or timm:NAME"
    )
    parser.add_argument(
        "--eval",
        action="append",
        default=[],
        metavar="NAME",
        help=f"an evaluation of the run's plan, or one of: {', '.join(EVALUATIONS)} (default: all that are planned)",
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="a setting or manifest of the evaluation"
    )
    parser.add_argument("--model", metavar="NAME", help="what WEIGHTS are of, where the file does not say it itself")
    parser.add_argument("--image-size", type=int, metavar="PIXELS", help="side of the input (default: the model's own)")
    parser.add_argument("--option", action="append", default=[], metavar="KEY=VALUE", help="an option of the model")
    parser.add_argument("--precision", choices=["fp32", "bf16"], help="arithmetic (default: the run's, else fp32)")
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads of the model (default: PyTorch's choice)")
    parser.add_argument("--loader-threads", type=int, default=1, metavar="N", help="threads that decode (default: 1)")
    add_storage(parser)
    add_cache(parser)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    return parser


def _readable(name: str, value: float) -> str:
    """Accuracies in percent, everything else as a number."""
    is_share = "top1" in name or "precision_at_1" in name
    return f"{100 * value:.2f} %" if is_share else f"{value:,.6g}"
