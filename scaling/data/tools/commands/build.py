"""`python -m scaling.data build`: shards in random order, with a manifest."""

import argparse
import os
from pathlib import Path

from scaling.data.format.class_names import read_classes
from scaling.data.format.ignore import Ignore
from scaling.data.format.manifest import check_name
from scaling.data.tools.build import BuildSettings, build_or_find
from scaling.data.tools.commands.index import add_classes, add_label_type, describe_classes, describe_several, summary
from scaling.data.tools.sources.find import find_source
from scaling.data.tools.sources.named import HUGGING_FACE
from scaling.data.tools.sources.source import Source, SourceOptions
from scaling.data.tools.sources.table import TableSource
from scaling.data.tools.vtab.prepare import prepare_task
from scaling.data.tools.vtab.tasks import PREFIX, find_task
from scaling.errors import UserError, printable
from scaling.readable import ProgressLine
from scaling.records.files import check_folder

_BOUNDS = (
    ("shard_samples", 1, 10_000_000),
    ("max_side", 1, 100_000),
    ("skip_bad", 0, 2**63 - 1),
    ("seed", 0, 2**63 - 1),
    ("threads", 1, 1024),
)
"""Options with their least and largest values."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Write a data set as WebDataset shards in globally random order, so that every prefix is a fair sample.\n"
        "  FOLDER                     one folder per class, images below it\n"
        "  FILE.csv, FILE.parquet     a table with the columns 'path' and 'labels' (in CSV separated by |)\n"
        "  FILE.json                  the manifest of other shards\n"
        "  hf:NAME[:SPLIT]            a data set of Hugging Face, on the hub or in a folder (extra 'datasets')\n"
        "  torchvision:CLASS?KEY=VALUE&...   a data set of torchvision with its arguments\n"
        "  vtab:TASK                  a task of VTAB-1k: OUT/train800.json, val200.json, train800val200.json, test.json"
    )
    parser.epilog = (
        "examples:\n  python -m scaling.data build photos/ data/photos --shard-samples 1000\n"
        "  python -m scaling.data build 'torchvision:CIFAR10?root=downloads&train=true&download=true' data/cifar10\n"
        "  python -m scaling.data build vtab:dtd data/vtab/dtd --from downloads\n"
        "  python -m scaling.data build vtab:kitti_distance data/vtab/kitti_distance --from vtab-1k/kitti\n"
        "\nA task of VTAB-1k has the counts of its table or is refused. Its 1,000 training images are drawn by\n"
        "--seed: VTAB's own are the first in the order of TensorFlow Datasets, which other libraries do not keep.\n"
        "To have a published split, name its lists with --from."
    )
    parser.add_argument("source", metavar="SOURCE")
    parser.add_argument("out", type=Path, metavar="OUT", help="folder of the shards and manifest.json")
    parser.add_argument("--seed", type=int, default=0, help="of the random order (default: 0)")
    parser.add_argument("--shard-samples", type=int, default=1000, help="samples in a shard (default: 1000)")
    parser.add_argument(
        "--from",
        dest="origin",
        metavar="WHERE",
        help="of a vtab: task: torchvision's download folder, hf:NAME, or a folder with the lists train800.txt, "
        "val200.txt, test.txt of lines 'PATH CLASS'",
    )
    parser.add_argument("--max-side", type=int, metavar="N", help="encode images with a longer side again, at N pixels")
    parser.add_argument("--image-column", metavar="NAME", help="images of an hf: source (default: found by its type)")
    parser.add_argument("--label-column", metavar="NAME", help="labels of an hf: source (default: found by its type)")
    add_label_type(parser)
    add_classes(parser, "default: those that occur, in alphabetical or numerical order")
    parser.add_argument(
        "--ignore", action="append", default=[], metavar="PATTERN", help="leave out paths such as '*.gif' or 'drafts/*'"
    )
    parser.add_argument(
        "--skip-bad", type=int, default=0, metavar="N", help="leave out up to N samples that cannot be packed"
    )
    parser.add_argument("--no-decode", action="store_true", help="do not decode images to find broken ones: faster")
    parser.add_argument("--name", help="name of the data set (default: the name of OUT)")
    add_threads(parser)


def add_threads(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="shards at once (default: the cores)")


def run(args: argparse.Namespace) -> int:
    for option, least, most in _BOUNDS:
        value = getattr(args, option)
        if value is not None and not least <= value <= most:
            raise UserError(f"--{option.replace('_', '-')} {value}: give a whole number from {least} to {most:,}")
    if args.source.startswith(PREFIX):
        return _run_vtab(args)
    if args.origin is not None:
        raise UserError(f"--from {args.origin}: is for vtab: tasks; name the source itself")
    for option, column in (("--image-column", args.image_column), ("--label-column", args.label_column)):
        if column is not None and not args.source.startswith(HUGGING_FACE):
            raise UserError(
                f"{option} {column}: is for hf: sources; folders and torchvision have no columns, and in a table they "
                "are called path, and label or labels: rename them there"
            )
    check_name(args.name)
    check_folder(args.out)
    options = SourceOptions(
        image_column=args.image_column,
        label_column=args.label_column,
        label_type=args.label_type,
        classes=None if args.classes is None else read_classes(args.classes),
        ignore=Ignore.of_command_line(args.ignore),
    )
    source = find_source(args.source, options)
    lines = describe_build_source(source) + options.ignore.describe_unmatched()
    print("\n".join(map(printable, lines)), flush=True)
    built = build_or_find(
        source,
        args.out,
        BuildSettings(args.seed, args.shard_samples, args.max_side),
        name=args.name or args.out.resolve().name,
        origin={"made_by": "scaling.data build", "source": args.source},
        threads=args.threads,
        skip_bad=args.skip_bad,
        decode=not args.no_decode,
        progress=ProgressLine("samples"),
    )
    skipped = built.manifest.origin.get("skipped", [])
    if skipped:
        print(f"left out, because they cannot be packed: {len(skipped):,} samples, listed in the manifest")
    if built.was_there:
        print(f"{args.out} holds this data set already; nothing was written")
    print(summary(built.manifest, args.out / "manifest.json"))
    return 0


def _run_vtab(args: argparse.Namespace) -> int:
    unused = {
        "--label-type": args.label_type,
        "--classes": args.classes,
        "--ignore": args.ignore,
        "--skip-bad": args.skip_bad,
        "--no-decode": args.no_decode,
        "--name": args.name,
    }
    for option, value in unused.items():
        if value:
            raise UserError(f"{option}: a task of VTAB-1k is prepared as it is; leave the option out")
    built = prepare_task(
        find_task(args.source.removeprefix(PREFIX)),
        args.out,
        args.origin or "",
        SourceOptions(image_column=args.image_column, label_column=args.label_column),
        seed=args.seed,
        shard_samples=args.shard_samples,
        max_side=args.max_side,
        threads=args.threads,
        progress=ProgressLine("samples"),
    )
    for split, manifest in built.items():
        print(summary(manifest, args.out / f"{split}.json"))
    return 0


def describe_build_source(source: Source) -> list[str]:
    """What was understood of a source, line by line."""
    lines = describe_classes(source.classes, source.class_counts, source.label_type)
    if source.label_type == "single" and source.class_counts is not None:
        lines.insert(0, f"{int(source.class_counts.sum()):,} samples")
    if isinstance(source, TableSource):
        found = source.resolved
        lines += describe_several(found.num_several, found.num_rows, f" (the first is {found.first_several})")
    if source.num_unlabelled:
        lines.append(f"without a label: {source.num_unlabelled:,} samples")
    if source.num_repeated:
        lines.append(
            f"{source.num_repeated:,} rows name the image of an earlier row; a study of distinct images counts them "
            "twice"
        )
    for reason, files in source.left_out.items():
        examples = ", ".join(map(repr, files.examples)) + (", …" if files.count > len(files.examples) else "")
        lines.append(f"left out: {files.count:,} {reason} ({examples})")
    return lines


def refuse_finished(out: Path) -> None:
    """A data set is never overwritten: runs may depend on it."""
    if (out / "manifest.json").exists():
        raise UserError(f"{out} holds a finished data set; name another folder, or remove that one")
