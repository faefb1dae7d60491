"""`python -m scaling.data validate`: are the shards what the manifest says, and fair to cut subsets from?"""

import argparse
import json
from collections import Counter
from dataclasses import asdict

from scaling.data.format.load_manifest import load_manifest
from scaling.data.tools.commands.access import add_storage, read_access
from scaling.data.tools.commands.build import add_threads
from scaling.data.tools.commands.index import describe_fairness
from scaling.data.tools.validate import Validation, validate_data
from scaling.errors import printable
from scaling.readable import ProgressLine

MAX_SHOWN = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Read every byte of a data set: checksums, tar structure, labels, images, keys and images that occur\n"
        "twice, and a test whether label frequencies differ along the shards, which would make subsets unfair.\n"
        "Exit code 1 when a sample is not as the manifest says; what is there twice is counted and told."
    )
    parser.epilog = "example:\n  python -m scaling.data validate data/train/manifest.json"
    parser.add_argument("manifest", metavar="MANIFEST", help="path or url")
    add_storage(parser)
    parser.add_argument("--no-decode", action="store_true", help="do not decode the images: much faster")
    add_threads(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")


def run(args: argparse.Namespace) -> int:
    manifest = load_manifest(args.manifest, read_access(args.storage))
    result = validate_data(
        manifest,
        decode=not args.no_decode,
        threads=args.threads,
        progress=ProgressLine("shards"),
    )
    print(json.dumps(asdict(result)) if args.json else "\n".join(map(printable, _report(result))))
    return 1 if result.findings else 0


def _report(result: Validation) -> list[str]:
    lines = [finding.text for finding in result.findings[:MAX_SHOWN]]
    if len(result.findings) > MAX_SHOWN:
        lines.append(f"… and {len(result.findings) - MAX_SHOWN:,} more")
    kinds = Counter(finding.kind for finding in result.findings)
    is_repeated = result.num_repeated_keys or result.num_repeated_images
    fine = "each is as the manifest says" if is_repeated else "no problem"
    problems = ", ".join(f"{count:,} × {kind}" for kind, count in kinds.most_common()) or fine
    lines.append(f"{result.num_samples:,} samples read: {problems}")
    if result.num_unlabelled:
        lines.append(f"{result.num_unlabelled:,} samples have no label; under a sigmoid loss all classes are negative")
    if result.num_repeated_keys:
        lines.append(f"{result.num_repeated_keys:,} samples have a key that an earlier sample has")
    if result.num_repeated_images:
        lines.append(
            f"{result.num_repeated_images:,} images are byte for byte those of an earlier sample; a study of "
            "distinct images counts them twice"
        )
    fairness = result.homogeneity
    if fairness is None:
        lines.append("label frequencies along the shards: nothing to compare")
    else:
        lines.append(describe_fairness(fairness))
    return lines
