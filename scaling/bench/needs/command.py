"""`python -m scaling.bench needs`: the page of what a study will need on a cluster."""

import argparse
import math
from pathlib import Path

from scaling.bench.command import new_file
from scaling.bench.needs.cluster import Assumptions, page, run_needs
from scaling.errors import UserError
from scaling.launch.graph.beginning import Beginning
from scaling.launch.price.forecast import RateBook
from scaling.launch.price.rates import measured_rates
from scaling.launch.study_dir import find_standings
from scaling.plan.planner import Planner
from scaling.records.files import write_text_atomic
from scaling.spec.study import load_study
from scaling.train.reporting.hardware import PEAKS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The sub-command's description and options."""
    parser.description = (
        "What a study will need on a cluster, by its plan, by measured or declared rates and by named assumptions. "
        "Nothing is trained."
    )
    parser.add_argument("sweep", type=Path, metavar="SWEEP.yaml")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="override one value of the sweep"
    )
    parser.add_argument("--out", type=new_file, metavar="FILE.md", help="write the page (default: print it)")
    parser.add_argument("--devices", type=int, default=64, help="in all (default: 64)")
    parser.add_argument("--devices-per-run", type=int, default=8, help="(default: 8)")
    parser.add_argument("--devices-per-node", type=int, default=8, help="(default: 8)")
    parser.add_argument("--device", default="NVIDIA H100 80GB HBM3", metavar="NAME", help=f"one of {', '.join(PEAKS)}")
    parser.add_argument(
        "--mfu",
        action="append",
        default=[],
        metavar="PATTERN=SHARE",
        help="declared share of the peak, by model (repeat)",
    )
    parser.add_argument("--measured", type=Path, metavar="RUNS", help="results folder whose measured rates are used")
    parser.add_argument(
        "--lost-share", type=float, default=0.1, help="of device time, to anything but steps (default: 0.1)"
    )
    parser.add_argument("--image-bytes", type=float, default=110e3, help="of a stored image (default: 110000)")
    parser.add_argument("--shard-images", type=int, default=1000, help="(default: 1000)")
    parser.add_argument(
        "--images-per-core-second", type=float, default=810, help="(default: 810, as in decoders-s224.json)"
    )
    parser.add_argument("--request-bytes", type=float, default=8 * 2**20, help="asked for at once (default: 8 MiB)")
    parser.add_argument("--cache-gb", type=float, default=0, help="shard cache of a node (default: 0)")
    parser.add_argument("--keep-checkpoints", type=int, default=2, help="(default: 2)")
    parser.add_argument("--price", type=float, help="of a device-hour (default: the sweep's)")
    parser.add_argument("--currency", default="USD", help="of --price (default: USD)")


def run(args: argparse.Namespace) -> int:
    """Print or write the page; returns the exit code."""
    study, document = load_study(args.sweep, args.set)
    if args.price is None and study.launch.price_per_device_hour is not None:
        args.price, args.currency = study.launch.price_per_device_hour, study.launch.currency
    assumed = _assumptions(args)
    runs = Beginning.of(study, document, Planner(study, document)).runs
    book = (
        measured_rates(args.measured, find_standings(args.measured / study.study, runs))
        if args.measured
        else RateBook()
    )
    needs = [run_needs(plan, assumed, book) for plan in runs]
    text = page(needs, assumed, study.study)
    if args.out is None:
        print(text, end="")
    else:
        write_text_atomic(args.out, text)
    return 0


POSITIVE = (
    "devices",
    "devices_per_run",
    "devices_per_node",
    "image_bytes",
    "shard_images",
    "images_per_core_second",
    "request_bytes",
    "keep_checkpoints",
)


def _assumptions(args: argparse.Namespace) -> Assumptions:
    if args.device not in PEAKS:
        raise UserError(f"--device {args.device}: its peak is not known; name one of {', '.join(PEAKS)}")
    for name in POSITIVE:
        if not 0 < getattr(args, name) < math.inf:
            raise UserError(f"--{name.replace('_', '-')} {getattr(args, name)} has to be above 0 and finite")
    if args.devices % args.devices_per_run:
        raise UserError(f"--devices {args.devices} is no multiple of --devices-per-run {args.devices_per_run}")
    if not 0 <= args.lost_share < 1:
        raise UserError(f"--lost-share {args.lost_share} has to be at least 0 and below 1")
    for name, value in (("--cache-gb", args.cache_gb), ("--price", args.price or 0.0)):
        if not 0 <= value < math.inf:
            raise UserError(f"{name} {value:g} has to be at least 0 and finite")
    return Assumptions(
        devices=args.devices,
        devices_per_run=args.devices_per_run,
        devices_per_node=args.devices_per_node,
        device=args.device,
        mfu=dict(_mfu(text) for text in args.mfu or ["*=0.35"]),
        lost_share=args.lost_share,
        image_bytes=args.image_bytes,
        shard_images=args.shard_images,
        images_per_core_second=args.images_per_core_second,
        request_bytes=args.request_bytes,
        cache_bytes=args.cache_gb * 1e9,
        keep_checkpoints=args.keep_checkpoints,
        price=args.price,
        currency=args.currency,
    )


def _mfu(text: str) -> tuple[str, float]:
    pattern, _, share = text.rpartition("=")
    try:
        value = float(share)
    except ValueError:
        value = 0.0
    if not pattern or not 0 < value <= 1:
        raise UserError(
            f"--mfu {text} has to be PATTERN=SHARE with a share above 0 and at most 1, such as 'mixer-*=0.35'"
        )
    return pattern, value
