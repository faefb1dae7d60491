"""`python -m scaling.data index`: a manifest for anybody's shards."""

import argparse
from pathlib import Path

from scaling.data.format.index import expand_urls, index_shards
from scaling.data.format.manifest import Manifest
from scaling.data.tools.commands.access import add_storage, read_access
from scaling.data.tools.commands.progress import ProgressLine
from scaling.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Read every shard once (headers and labels, no images) and write a manifest: counts, bytes,\n"
        "checksums, classes. Shards are .tar or .tar.gz with one image (jpg, png, webp) and one label per key:\n"
        '.cls with an integer, or .json with a list, {"labels": [...]} or {"label": n}. They lie in folders or behind\n'
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
    parser.add_argument(
        "--classes", type=Path, metavar="FILE", help="class names, one a line, or number<tab>name (default: numbers)"
    )
    parser.add_argument("--name", help="name of the data set (default: the manifest's file or folder name)")
    parser.add_argument("--label-type", choices=("single", "multi"), help="default: found in the labels")
    parser.add_argument("--threads", type=int, help="shards read at once (default: one per core, 16 when remote)")
    add_storage(parser)


def run(args: argparse.Namespace) -> int:
    classes = None if args.classes is None else read_classes(args.classes)
    access = read_access(args.storage)
    locations = expand_urls(args.urls, access)
    name = args.name or (args.out.parent.name if args.out.stem == "manifest" else args.out.stem)
    manifest = index_shards(
        locations,
        args.out,
        access=access,
        name=name,
        classes=classes,
        label_type=args.label_type,
        threads=args.threads,
        progress=ProgressLine("shards"),
    )
    print(summary(manifest, args.out))
    return 0


def read_classes(path: Path) -> list[str]:
    """Class names in the order of their numbers."""
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except OSError as error:
        raise UserError(f"--classes {path} cannot be read ({error.strerror}); it holds class names") from error
    pairs = [line.split("\t", 1) for line in lines]
    if pairs and all(len(pair) == 2 and pair[0] == str(number) for number, pair in enumerate(pairs)):
        return [name for _, name in pairs]
    return lines


def summary(manifest: Manifest, path: Path) -> str:
    """One line about a manifest that was written."""
    return (
        f"{path}: {manifest.num_samples:,} samples in {len(manifest.urls)} shards, {len(manifest.classes)} "
        f"{manifest.label_type}-label classes, digest {manifest.digest[:12]}"
    )
