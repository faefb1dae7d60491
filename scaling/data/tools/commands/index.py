"""`python -m scaling.data index`: a manifest for existing shards."""

import argparse
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from scaling.data.format.class_names import read_classes
from scaling.data.format.homogeneity import Homogeneity
from scaling.data.format.ignore import Ignore
from scaling.data.format.index import IndexReport, LabelForm, expand_urls, index_and_report
from scaling.data.format.manifest import Manifest, check_name
from scaling.data.format.shard import IMAGE_EXTENSIONS
from scaling.data.tools.commands.access import add_storage, read_access
from scaling.errors import UserError, printable
from scaling.readable import ProgressLine
from scaling.records.files import check_folder

RARE = 0.01
"""Share of the samples with several labels below which these may be mistakes."""

MAX_NAME_SHOWN = 60
"""Characters of a class name in output."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Read every shard once (headers and labels, no images) and write a manifest: counts, bytes,\n"
        "checksums, classes. Shards are .tar or .tar.gz with one image (jpg, png, webp) and one label per key:\n"
        '.cls with an integer, or .json with a list, {"labels": [...]} or {"label": n}. They are in folders or behind\n'
        "s3://, gs://, http(s):// or hf:// (extras s3, gcs, http, hub); credentials are found as fsspec's libraries do."
    )
    parser.epilog = (
        "example:\n  python -m scaling.data index photos/train --out photos/train.json --classes photos/classes.txt\n"
        "  python -m scaling.data index 's3://bucket/train-{00000..00099}.tar' --out train.json "
        "--storage s3.endpoint_url=https://..."
    )
    parser.add_argument(
        "urls", nargs="+", metavar="SHARDS", help="folders, files, wildcards or {00..09} ranges, as paths or urls"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="MANIFEST", help="the manifest to write")
    add_classes(parser, "default: numbers")
    parser.add_argument("--name", help="name of the data set (default: the manifest's file or folder name)")
    add_label_type(parser)
    parser.add_argument(
        "--ignore",
        action="append",
        default=[],
        metavar="PATTERN",
        help="leave out shards and members such as 'old-*.tar', '*.gif' or '0042.*'; an image with its sample",
    )
    parser.add_argument("--threads", type=int, help="shards read at once (default: one per core, 16 when remote)")
    add_storage(parser)


def add_classes(parser: argparse.ArgumentParser, default: str) -> None:
    parser.add_argument(
        "--classes",
        type=Path,
        metavar="FILE",
        help="class names in their order: one a line, label<tab>name lines, a JSON list or object, or the manifest of "
        f"another data set, whose classes are then used ({default})",
    )


def add_label_type(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--label-type",
        choices=get_args(LabelForm),
        help="one class or a list of classes for each image, or vectors of 0 and 1 (default: found in the labels)",
    )


def run(args: argparse.Namespace) -> int:
    access, ignore = read_access(args.storage), Ignore.of_command_line(args.ignore)
    classes = None if args.classes is None else read_classes(args.classes)
    check_name(args.name)
    check_folder(args.out.parent)
    _refuse_other_file(args.out)
    report = index_and_report(
        expand_urls(args.urls, access, ignore),
        args.out,
        access=access,
        name=args.name or (args.out.parent.name if args.out.stem == "manifest" else args.out.stem),
        classes=classes,
        label_type=args.label_type,
        ignore=ignore,
        threads=args.threads,
        progress=ProgressLine("shards"),
    )
    print(
        "\n".join(
            map(printable, [*describe_report(report), *ignore.describe_unmatched(), summary(report.manifest, args.out)])
        )
    )
    return 0


def _refuse_other_file(out: Path) -> None:
    """A manifest may be written again; nothing else is replaced by one, least of all a shard."""
    if out.is_dir():
        raise UserError(f"--out {out} is a folder, but names the manifest; say {out / 'manifest.json'}")
    if out.is_file():
        with out.open("rb") as stream:
            head = stream.read(64).lstrip()
        if head and not head.startswith(b"{"):
            raise UserError(f"--out {out} is there already and is no manifest; name a file such as manifest.json")


def describe_report(report: IndexReport) -> list[str]:
    """What was understood of the shards, line by line."""
    manifest = report.manifest
    lines = describe_classes(manifest.classes, manifest.class_counts, manifest.label_type)
    lines += describe_several(report.num_several, report.manifest.num_samples, "")
    if report.num_unlabelled:
        lines.append(f"without a label: {report.num_unlabelled:,} samples")
    if report.num_empty_images:
        lines.append(
            f"images of 0 bytes: {report.num_empty_images:,} samples, the first {report.first_empty_image}; training "
            "counts each against data.max_corrupt; pack them again, or leave them out with --ignore"
        )
    if report.passed_over:
        found = ", ".join(f"{count:,} x {name}" for name, count in report.passed_over.most_common(10))
        lines.append(f"members that are no part of a sample: {found}")
        if any(name.endswith(IMAGE_EXTENSIONS) for name in report.passed_over):
            lines.append("  the image of a sample is the one whose name is the key, one dot and the extension")
    if report.num_equal_shards:
        lines.append(
            f"{report.num_equal_shards:,} shards hold the same bytes as another; a study of distinct images counts "
            "them twice"
        )
    if manifest.homogeneity is not None and not manifest.homogeneity.is_fair:
        lines.append(describe_fairness(manifest.homogeneity))
    return lines


def describe_classes(
    classes: Sequence[str], counts: NDArray[np.int64] | None, label_type: str, max_shown: int = 5
) -> list[str]:
    """Label type, the first classes, and the most frequent and the rarest ones."""
    first = ", ".join(map(_told, classes[:max_shown])) + (", …" if len(classes) > max_shown else "")
    counted = "1 class" if len(classes) == 1 else f"{len(classes):,} classes"
    lines = [f"{counted}, {label_type}-label; the first are {first}"]
    if counts is None or not len(counts):
        return lines
    ranked = np.argsort(-counts, kind="stable")

    def counted_classes(numbers: NDArray[np.int64]) -> str:
        return ", ".join(f"{_told(classes[number])} {counts[number]:,}" for number in numbers.tolist())

    lines.append(f"most frequent: {counted_classes(ranked[:max_shown])}")
    if len(classes) > max_shown:
        lines.append(f"rarest: {counted_classes(ranked[::-1][:max_shown])}")
    for alike in _alike(classes):
        lines.append(
            f"{' and '.join(map(_told, alike))} differ in case, spaces or invisible characters alone: are they "
            "one class?"
        )
    numbers = [name for name in classes if name.isdecimal()]
    if 0 < len(numbers) < len(classes) / 2:
        lines.append(f"numbers among words: {', '.join(map(_told, numbers[:max_shown]))}; are they classes?")
    num_empty = int(np.count_nonzero(counts == 0))
    if num_empty:
        lines.append(f"{num_empty:,} of the classes have no sample")
    return lines


def describe_several(num_several: int, num_samples: int, where: str) -> list[str]:
    """A line where a few samples with several labels make a whole data set multi-label."""
    if not 0 < num_several <= RARE * num_samples:
        return []
    return [
        f"multi-label because of {num_several:,} of {num_samples:,} samples with several labels{where}; repair them if "
        "that is a mistake"
    ]


def _told(name: str) -> str:
    """A class name in a line of output."""
    return repr(name if len(name) <= MAX_NAME_SHOWN else f"{name[:MAX_NAME_SHOWN]}…")


def _alike(classes: Sequence[str], max_shown: int = 3) -> list[list[str]]:
    """The first groups of names that a person would take for one."""
    groups: dict[str, list[str]] = {}
    for name in classes:
        plain = unicodedata.normalize("NFKC", name).casefold()
        seen = "".join(c for c in plain if not c.isspace() and unicodedata.category(c) != "Cf")
        groups.setdefault(seen, []).append(name)
    return [names for names in groups.values() if len(names) > 1][:max_shown]


def describe_fairness(homogeneity: Homogeneity) -> str:
    """Whether label frequencies differ along the shards, and what that means for subsets."""
    told = (
        f"label frequencies vary along the shards {homogeneity.spread:.2f} times as much as by chance "
        f"(p = {homogeneity.p_value:.2g}): a subset, which is a prefix of them, is "
    )
    if homogeneity.is_fair:
        return told + "a fair sample"
    return told + (
        "NOT a fair sample; write the data set again in random order with 'python -m scaling.data build MANIFEST OUT'"
    )


def summary(manifest: Manifest, path: Path) -> str:
    """One line about a manifest that was written."""
    return (
        f"{path}: {manifest.num_samples:,} samples in {len(manifest.urls)} shards, {len(manifest.classes)} "
        f"{manifest.label_type}-label classes, digest {manifest.digest[:12]}"
    )
