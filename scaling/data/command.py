"""`python -m scaling.data`: make, index and look at the data of a study."""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from scaling.data.contact_sheet import draw_contact_sheet
from scaling.data.index import expand_urls, index_shards
from scaling.data.jft_like import command as jft_like
from scaling.data.manifest import Manifest, load_manifest
from scaling.data.pixels import PixelSource
from scaling.data.subset import select_subset
from scaling.errors import UserError
from scaling.tables import plain_table

EPILOG = """\
examples:
  python -m scaling.data make data/jft-like
  python -m scaling.data index 'photos/train-{00000..00009}.tar' --out data/photos/train.json --classes classes.txt
  python -m scaling.data subset data/jft-like/train/manifest.json --fraction 0.1 --seed 0
  python -m scaling.data show data/jft-like/train/manifest.json --out sheet.png
"""

TAIL_LIMITS = (1, 20, 100, 1000)
"""Class sizes at which the long tail is counted; 20 and 100 are what is known of JFT-300M."""


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m scaling.data",
        description="Make, index and look at the data of a study.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    make = commands.add_parser("make", help="write the built-in JFT-like data set as shards")
    jft_like.add_arguments(make)
    make.set_defaults(run=jft_like.run)
    _add_index(commands.add_parser("index", help="write a manifest for existing WebDataset shards"))
    _add_subset(commands.add_parser("subset", help="what a subset holds: count, digest, classes left, long tail"))
    _add_show(commands.add_parser("show", help="a picture sheet of samples with their labels"))
    args = parser.parse_args(argv)
    code: int = args.run(args)
    return code


def _add_index(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Read every shard once (headers and labels, no pictures) and write a manifest: counts, bytes, checksums, "
        "classes. Shards are .tar or .tar.gz with one image (jpg, png, webp) and one label (.cls: an integer; .json: "
        'a list, {"labels": [...]} or {"label": n}) per key.'
    )
    parser.add_argument("urls", nargs="+", metavar="SHARDS", help="folders, files, wildcards or {00..09} ranges")
    parser.add_argument("--out", type=Path, required=True, metavar="MANIFEST", help="the manifest to write")
    parser.add_argument("--classes", type=Path, metavar="FILE", help="class names, one a line (default: numbers)")
    parser.add_argument("--name", help="name of the data set (default: the manifest's file or folder name)")
    parser.add_argument("--label-type", choices=("single", "multi"), help="default: found in the labels")
    parser.set_defaults(run=_index)


def _index(args: argparse.Namespace) -> int:
    classes = None
    if args.classes is not None:
        if not args.classes.exists():
            raise UserError(f"--classes {args.classes}: no such file; it holds one class name a line")
        classes = [line.strip() for line in args.classes.read_text().splitlines() if line.strip()]
    paths = expand_urls(args.urls)
    started = time.monotonic()

    def progress(num_shards: int, num_samples: int) -> None:
        rate = num_samples / max(time.monotonic() - started, 1e-9)
        end = "\n" if num_shards == len(paths) else ""
        print(
            f"\r{num_shards}/{len(paths)} shards, {num_samples:,} samples, {rate:,.0f} samples/s",
            end=end,
            file=sys.stderr,
        )

    name = args.name or (args.out.parent.name if args.out.stem == "manifest" else args.out.stem)
    manifest = index_shards(paths, args.out, name=name, classes=classes, label_type=args.label_type, progress=progress)
    print(_summary(manifest, args.out))
    return 0


def _add_subset(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "The first round(fraction * N) samples in the shard order drawn from the seed; nested by fraction."
    )
    parser.add_argument("manifest", type=Path, metavar="MANIFEST")
    parser.add_argument("--fraction", type=float, required=True, help="share of the samples, above 0 and at most 1")
    parser.add_argument("--seed", type=int, default=0, help="seed of the draw (default: 0)")
    parser.set_defaults(run=_subset)


def _subset(args: argparse.Namespace) -> int:
    if not 0 < args.fraction <= 1:
        raise UserError(f"--fraction {args.fraction}: must be above 0 and at most 1; write 0.3 for 30 %")
    manifest = load_manifest(args.manifest)
    subset = select_subset(manifest, args.fraction, args.seed)
    print(f"{subset.num_samples:,} of {manifest.num_samples:,} samples from {len(subset.shard_ids)} shards")
    print(f"digest {subset.digest}")
    if manifest.is_declared:
        return 0
    source = PixelSource(manifest)
    counts = np.zeros(len(manifest.classes), dtype=np.int64)
    num_labels = 0
    for shard_id, count in zip(subset.shard_ids.tolist(), subset.counts.tolist(), strict=True):
        for labels in source.shard_labels(shard_id)[:count]:
            np.add.at(counts, labels, 1)
            num_labels += len(labels)
    print(
        f"{num_labels / subset.num_samples:.2f} labels an image; "
        f"{np.count_nonzero(counts)} of {len(counts)} classes left"
    )
    rows = [
        [f"fewer than {limit}", str(int((counts < limit).sum())), f"{(counts < limit).mean():.1%}"]
        for limit in TAIL_LIMITS
    ]
    print("\n" + plain_table(["images", "classes", "share"], rows))
    return 0


def _add_show(parser: argparse.ArgumentParser) -> None:
    parser.description = "Draw samples of a data set, spread over its shards, with their class names."
    parser.add_argument("manifest", type=Path, metavar="MANIFEST")
    parser.add_argument("--out", type=Path, required=True, metavar="PNG")
    parser.add_argument("--num", type=int, default=40, help="how many samples (default: 40)")
    parser.add_argument("--seed", type=int, default=0)
    parser.set_defaults(run=_show)


def _show(args: argparse.Namespace) -> int:
    manifest = load_manifest(args.manifest)
    draw_contact_sheet(PixelSource(manifest), args.out, num=args.num, seed=args.seed)
    print(args.out)
    return 0


def _summary(manifest: Manifest, path: Path) -> str:
    return (
        f"{path}: {manifest.num_samples:,} samples in {len(manifest.urls)} shards, {len(manifest.classes)} "
        f"{manifest.label_type}-label classes, digest {manifest.digest[:12]}"
    )
