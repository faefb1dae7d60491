"""`python -m scaling.data show`: a picture sheet of samples with their labels."""

import argparse
from pathlib import Path

from scaling.data.contact_sheet import draw_contact_sheet
from scaling.data.manifest import load_manifest
from scaling.data.pixels import PixelSource


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = "Draw samples of a data set, spread evenly over it, with their class names."
    parser.epilog = "example:\n  python -m scaling.data show data/train/manifest.json --out sheet.png"
    parser.add_argument("manifest", type=Path, metavar="MANIFEST")
    parser.add_argument("--out", type=Path, required=True, metavar="PNG")
    parser.add_argument("--num", type=int, default=40, help="how many samples (default: 40)")
    parser.add_argument("--seed", type=int, default=0, help="which samples (default: 0)")


def run(args: argparse.Namespace) -> int:
    draw_contact_sheet(PixelSource(load_manifest(args.manifest)), args.out, num=args.num, seed=args.seed)
    print(args.out)
    return 0
