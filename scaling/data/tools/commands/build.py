"""`python -m scaling.data build`: shards in random order, with a manifest."""

import argparse
import os
from pathlib import Path

from scaling.data.tools.build import BuildSettings, build_shards
from scaling.data.tools.build_sources import open_source
from scaling.data.tools.commands.index import summary
from scaling.data.tools.commands.progress import ProgressLine
from scaling.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Write a data set as WebDataset shards in globally random order, so that every prefix is a fair sample.\n"
        "Memory stays bounded; a build that was stopped goes on when the same command is given again. Original\n"
        "encoded bytes are kept. SOURCE is one of:\n\n"
        "  FOLDER                     one folder per class, images below it\n"
        "  FILE.csv, FILE.parquet     a table with the columns 'path' and 'labels' (in CSV separated by |)\n"
        "  FILE.json                  the manifest of other shards\n"
        "  hf:NAME[:SPLIT]            a data set of Hugging Face, on the hub or in a folder (extra 'datasets')\n"
        "  torchvision:CLASS?KEY=VALUE&...   a data set of torchvision with its arguments"
    )
    parser.epilog = (
        "examples:\n  python -m scaling.data build photos/ data/photos --shard-samples 1000\n"
        "  python -m scaling.data build 'torchvision:CIFAR10?root=downloads&train=true&download=true' data/cifar10"
    )
    parser.add_argument("source", metavar="SOURCE")
    parser.add_argument("out", type=Path, metavar="OUT", help="folder of the shards and manifest.json")
    parser.add_argument("--seed", type=int, default=0, help="of the random order (default: 0)")
    parser.add_argument("--shard-samples", type=int, default=1000, help="samples in a shard (default: 1000)")
    parser.add_argument("--max-side", type=int, metavar="N", help="encode images with a longer side again, at N pixels")
    parser.add_argument("--image-column", metavar="NAME", help="images of an hf: source (default: found by its type)")
    parser.add_argument("--label-column", metavar="NAME", help="labels of an hf: source (default: found by its type)")
    parser.add_argument("--name", help="name of the data set (default: the name of OUT)")
    add_threads(parser)


def add_threads(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="shards at once (default: the cores)")


def run(args: argparse.Namespace) -> int:
    for option in ("shard_samples", "max_side"):
        value = getattr(args, option)
        if value is not None and value < 1:
            raise UserError(f"--{option.replace('_', '-')} {value}: must be at least 1")
    refuse_finished(args.out)
    manifest = build_shards(
        open_source(args.source, args.image_column, args.label_column),
        args.out,
        BuildSettings(args.seed, args.shard_samples, args.max_side),
        name=args.name or args.out.resolve().name,
        origin={"made_by": "scaling.data build", "source": args.source},
        threads=args.threads,
        progress=ProgressLine("samples"),
    )
    print(summary(manifest, args.out / "manifest.json"))
    return 0


def refuse_finished(out: Path) -> None:
    """A data set is never overwritten: runs may depend on it."""
    if (out / "manifest.json").exists():
        raise UserError(f"{out} holds a finished data set; name another folder, or remove that one")
