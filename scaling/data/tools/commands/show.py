"""`python -m scaling.data show`: a sheet of samples with their labels, and how frequent each class is."""

import argparse
from pathlib import Path

from scaling.data.format.class_counts import count_classes
from scaling.data.format.load_manifest import load_manifest
from scaling.data.format.manifest import Manifest
from scaling.data.read.pixels import PixelSource
from scaling.data.tools.commands.access import add_cache, add_storage, read_access
from scaling.data.tools.frequency_plot import draw_class_frequencies
from scaling.data.tools.sheets import draw_contact_sheet
from scaling.errors import UserError
from scaling.readable import ProgressLine
from scaling.records.files import check_folder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Draw samples of a data set, spread evenly over it, with their class names; and the images of each class\n"
        "over the rank of the class, which needs every label but no image."
    )
    parser.epilog = (
        "example:\n  python -m scaling.data show data/train/manifest.json --out sheet.png --frequencies classes.png"
    )
    parser.add_argument("manifest", metavar="MANIFEST", help="path or url")
    add_storage(parser)
    add_cache(parser)
    parser.add_argument("--out", type=Path, metavar="PNG", help="the sheet")
    parser.add_argument("--frequencies", type=Path, metavar="PNG", help="the plot of class frequencies")
    parser.add_argument("--num", type=int, default=40, help="how many samples (default: 40)")
    parser.add_argument("--seed", type=int, default=0, help="which samples (default: 0)")


def run(args: argparse.Namespace) -> int:
    if args.out is None and args.frequencies is None:
        raise UserError("show draws nothing without --out PNG (a sheet) or --frequencies PNG (a plot)")
    if args.num < 1:
        raise UserError(f"--num {args.num}: must be at least 1")
    for option, path in (("--out", args.out), ("--frequencies", args.frequencies)):
        if path is not None:
            _check_png(option, path)
    manifest = load_manifest(args.manifest, read_access(args.storage, args.cache, args.cache_gb))
    if args.out is not None:
        draw_contact_sheet(PixelSource(manifest), args.out, num=args.num, seed=args.seed)
        print(args.out)
    if args.frequencies is not None:
        _draw_frequencies(manifest, args.frequencies)
        print(args.frequencies)
    return 0


def _check_png(option: str, path: Path) -> None:
    """UserError before anything is read for a file that cannot be written as PNG."""
    if path.suffix.lower() != ".png" or path.is_dir():
        raise UserError(f"{option} {path}: must name a PNG file, such as sheet.png")
    check_folder(path.parent)


def _draw_frequencies(manifest: Manifest, out: Path) -> None:
    progress = ProgressLine("samples")
    counts = count_classes(
        manifest,
        ((shard_id, range(num)) for shard_id, num in enumerate(manifest.shard_samples.tolist())),
        progress=lambda num_samples: progress(num_samples, manifest.num_samples, num_samples),
    )
    draw_class_frequencies(counts, out, name=manifest.name)
