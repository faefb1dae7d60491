"""`python -m scaling.data subset`: what a subset holds."""

import argparse
import json
from pathlib import Path

import numpy as np

from scaling.data.format.class_counts import count_classes
from scaling.data.format.exclusion_list import load_exclusion
from scaling.data.format.load_manifest import load_manifest
from scaling.data.format.manifest import Manifest
from scaling.data.select.exclusion import NO_EXCLUSION
from scaling.data.select.subset import Subset, select_subset
from scaling.data.tools.build import BuildSettings, build_shards
from scaling.data.tools.commands.access import add_cache, add_storage, read_access
from scaling.data.tools.commands.build import refuse_finished
from scaling.data.tools.commands.index import summary
from scaling.data.tools.sources.shards import ShardSource
from scaling.errors import UserError
from scaling.readable import ProgressLine, plain_table

TAIL_LIMITS = (1, 20, 100, 1000)
"""Class sizes at which the long tail is counted; 20 and 100 are what is known of JFT-300M."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "The first round(fraction * N) samples in the shard order drawn from the seed: exact in count, and nested,\n"
        "so that 3 % is part of 10 % of the same seed. Prints count, digest, classes left and the long tail."
    )
    parser.epilog = "example:\n  python -m scaling.data subset data/train/manifest.json --fraction 0.1 --seed 0"
    parser.add_argument("manifest", metavar="MANIFEST", help="path or url")
    add_storage(parser)
    add_cache(parser)
    parser.add_argument("--fraction", type=float, required=True, help="share of the samples, above 0 and at most 1")
    parser.add_argument("--seed", type=int, default=0, help="seed of the draw (default: 0)")
    parser.add_argument("--exclude", metavar="FILE", help="samples to pass over, a list that dedup wrote")
    parser.add_argument("--write", type=Path, metavar="OUT", help="write the subset as a data set of its own")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")


def run(args: argparse.Namespace) -> int:
    if not 0 < args.fraction <= 1:
        raise UserError(f"--fraction {args.fraction}: must be above 0 and at most 1; write 0.3 for 30 %")
    manifest = load_manifest(args.manifest, read_access(args.storage, args.cache, args.cache_gb))
    exclusion = NO_EXCLUSION if args.exclude is None else load_exclusion(args.exclude, manifest)
    subset = select_subset(manifest, args.fraction, args.seed, exclusion)
    facts: dict[str, object] = {
        "num_samples": subset.num_samples,
        "num_samples_of_data_set": manifest.num_samples,
        "num_excluded": len(exclusion),
        "num_shards": len(subset.shard_ids),
        "digest": subset.digest,
    }
    lines = [
        f"{subset.num_samples:,} of {manifest.num_samples:,} samples from {len(subset.shard_ids)} shards"
        + (f"; {len(exclusion):,} are excluded" if exclusion else ""),
        f"digest {subset.digest}",
    ]
    if not manifest.is_declared:
        samples = ((shard_id, subset.indices_of(place)) for place, shard_id in enumerate(subset.shard_ids.tolist()))
        counts = count_classes(manifest, samples)
        below = {limit: int((counts < limit).sum()) for limit in TAIL_LIMITS}
        num_left = int(np.count_nonzero(counts))
        facts |= {"num_labels": int(counts.sum()), "num_classes_left": num_left, "num_classes_below": below}
        tail = [[f"fewer than {limit:,}", f"{num:,}", f"{num / len(counts):.1%}"] for limit, num in below.items()]
        lines += [
            f"{counts.sum() / subset.num_samples:.2f} labels an image; {num_left:,} of {len(counts):,} classes left",
            "",
            plain_table(["images", "classes", "share"], tail),
        ]
    if args.write is not None:
        if manifest.is_declared:
            raise UserError(
                f"--write: data set {manifest.name!r} is declared by count only; it has no samples to write"
            )
        lines += ["", _write(manifest, subset, args)]
    print(json.dumps(facts) if args.json else "\n".join(lines))
    return 0


def _write(manifest: Manifest, subset: Subset, args: argparse.Namespace) -> str:
    """Shards of the subset's samples in canonical order, as many in each as the data set has on average."""
    refuse_finished(args.write)
    shard_samples = -(-manifest.num_samples // len(manifest.urls))
    origin = {"made_by": "scaling.data subset", "of": manifest.digest, "fraction": args.fraction, "seed": args.seed}
    if subset.exclusion:
        origin["exclusion"] = subset.exclusion.digest
    written = build_shards(
        ShardSource(manifest, subset),
        args.write,
        BuildSettings(shuffle_seed=None, shard_samples=shard_samples, max_side=None),
        name=args.write.resolve().name,
        origin=origin,
        decode=False,
        progress=ProgressLine("samples"),
    )
    return summary(written, args.write / "manifest.json")
