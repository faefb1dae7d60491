"""`python -m scaling.data dedup`: evaluation images in the training set, and a list that keeps them out."""

import argparse
import csv
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from scaling.data.format.exclusion_list import make_exclusion, save_exclusion
from scaling.data.format.load_manifest import load_manifest
from scaling.data.format.manifest import Manifest
from scaling.data.format.open_shards import OpenShards
from scaling.data.tools.commands.access import add_cache, add_storage, read_access
from scaling.data.tools.commands.build import add_threads
from scaling.data.tools.dedup import EQUAL_BYTES, Findings, Match, find_duplicates
from scaling.data.tools.sheets import draw_pair_sheet, spread_over
from scaling.errors import UserError
from scaling.readable import ProgressLine, defused, plain_table
from scaling.records.files import check_folder, make_folder

MAX_DISTANCE = 16
"""Bits; beyond, a quarter of those in which unrelated images differ, the matches are no duplicates."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Find training images that are evaluation images, or look like one: equal bytes, or perceptual hashes (pHash)\n"
        "that differ in at most --distance of 64 bits. 6 bits find re-encoded and resized copies and most that lost\n"
        "2 % of every side, 10 bits most that lost 4 %. Writes OUT/pairs.csv, OUT/pairs.png (look at it before you\n"
        "trust the distance) and OUT/exclude.json, which 'subset --exclude' and 'data: {exclude: FILE}' of a study\n"
        "honour. Every training image is decoded once; memory holds the hashes of the evaluation images alone."
    )
    parser.epilog = (
        "example:\n  python -m scaling.data dedup data/jft-like/train/manifest.json \\\n"
        "      --against data/jft-like/val/manifest.json data/jft-like/fewshot/test/manifest.json --out data/dedup"
    )
    parser.add_argument("train", metavar="TRAIN", help="manifest of the training set, path or url")
    parser.add_argument("--against", nargs="+", required=True, metavar="VAL", help="manifests of evaluation sets")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the lists and the sheet")
    parser.add_argument("--distance", type=int, default=6, metavar="BITS", help="of 64 that may differ (default: 6)")
    add_threads(parser)
    add_storage(parser)
    add_cache(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")


def run(args: argparse.Namespace) -> int:
    if not 0 <= args.distance <= MAX_DISTANCE:
        raise UserError(f"--distance {args.distance}: must be 0 to {MAX_DISTANCE}; unrelated images differ in about 32")
    check_folder(args.out)
    access = read_access(args.storage, args.cache, args.cache_gb)
    train = load_manifest(args.train, access)
    evaluations = [load_manifest(location, access) for location in args.against]
    found = find_duplicates(train, evaluations, args.distance, args.threads, ProgressLine("images"))
    exclusion = make_exclusion(train, [(match.train.shard, match.train.number) for match in found.matches])
    make_folder(args.out)
    _write_pairs(found.matches, args.against, args.out / "pairs.csv")
    origin = {"made_by": "scaling.data dedup", "against": [m.digest for m in evaluations], "distance": args.distance}
    save_exclusion(exclusion, train, args.out / "exclude.json", origin)
    if found.matches:
        _draw(found.matches, train, evaluations, args.out / "pairs.png")
    facts = {
        "num_train": found.num_train,
        "num_evaluation": found.num_evaluation,
        "num_pairs": len(found.matches),
        "num_excluded": len(exclusion),
        "num_unreadable": found.num_unreadable,
    }
    print(json.dumps(facts) if args.json else _told(found, len(exclusion), args))
    return 0


def _told(found: Findings, num_excluded: int, args: argparse.Namespace) -> str:
    rows = []
    for number, name in enumerate(args.against):
        own = [match for match in found.matches if match.evaluation == number]
        equal = sum(match.distance == EQUAL_BYTES for match in own)
        touched = len({match.val for match in own})
        rows.append([name, f"{equal:,}", f"{len(own) - equal:,}", f"{touched:,}"])
    lines = [
        plain_table(["against", "equal pairs", "similar pairs", "evaluation images met"], rows),
        "",
        f"{num_excluded:,} of {found.num_train:,} training images are excluded by {args.out / 'exclude.json'}",
    ]
    if found.num_unreadable:
        lines.append(f"{found.num_unreadable:,} images cannot be decoded and were compared by their bytes alone")
    if found.matches:
        lines.append(f"look at the pairs: {args.out / 'pairs.png'}; all of them: {args.out / 'pairs.csv'}")
    return "\n".join(lines)


def _write_pairs(matches: Sequence[Match], names: Sequence[str], path: Path) -> None:
    """One row per pair; the distance of equal bytes is written as `equal`."""
    with path.open("w", newline="", encoding="utf-8") as stream:
        rows = csv.writer(stream, lineterminator="\n")
        rows.writerow(
            ["train_shard", "train_index", "train_key", "against", "val_shard", "val_index", "val_key", "distance"]
        )
        for match in matches:
            distance = "equal" if match.distance == EQUAL_BYTES else match.distance
            row = [*match.train, names[match.evaluation], *match.val, distance]
            rows.writerow([defused(cell) if isinstance(cell, str) else cell for cell in row])


def _draw(matches: Sequence[Match], train: Manifest, evaluations: Sequence[Manifest], path: Path) -> None:
    """Pairs from the surest to the most doubtful."""
    train_shards = OpenShards(train)
    shards = [OpenShards(manifest) for manifest in evaluations]
    ordered = sorted(matches, key=lambda match: match.distance)
    pairs = []
    for match in (ordered[place] for place in spread_over(len(ordered))):
        told = "equal bytes" if match.distance == EQUAL_BYTES else f"{match.distance} bits differ"
        one = train_shards.get(match.train.shard).read_image(match.train.number)
        other = shards[match.evaluation].get(match.val.shard).read_image(match.val.number)
        pairs.append((one, other, f"{told}\n{match.train.key[-16:]} | {match.val.key[-16:]}"))
    draw_pair_sheet(pairs, path)
    print(f"{len(pairs)} of {len(matches)} pairs drawn", file=sys.stderr)
