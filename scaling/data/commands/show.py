"""`python -m scaling.data show`: a picture sheet of samples with their labels."""

import argparse
from pathlib import Path

from scaling.data.commands.access import add_cache, add_storage, read_access
from scaling.data.contact_sheet import draw_contact_sheet
from scaling.data.manifest import load_manifest
from scaling.data.pixels import PixelSource


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = "Draw samples of a data set, spread evenly over it, with their class names."
    parser.epilog = "example:\n  python -m scaling.data show data/train/manifest.json --out sheet.png"
    parser.add_argument("manifest", metavar="MANIFEST", help="path or url")
    add_storage(parser)
    add_cache(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="PNG")
    parser.add_argument("--num", type=int, default=40, help="how many samples (default: 40)")
    parser.add_argument("--seed", type=int, default=0, help="which samples (default: 0)")


def run(args: argparse.Namespace) -> int:
    manifest = load_manifest(args.manifest, read_access(args.storage, args.cache, args.cache_gb))
    draw_contact_sheet(PixelSource(manifest), args.out, num=args.num, seed=args.seed)
    print(args.out)
    return 0
