"""A manifest for anybody's shards: counts, checksums and classes, read from the tars as they are."""

import glob
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from scaling.data.format.checksum import file_sha256
from scaling.data.format.corrupt import CorruptShardError
from scaling.data.format.manifest import LabelType, Manifest, build_manifest
from scaling.data.format.shard import Shard
from scaling.data.storage.remote import RemoteFiles, is_url
from scaling.data.storage.shard_files import ShardFiles
from scaling.errors import UserError
from scaling.records.run_plan import DEFAULT_ACCESS, AccessPlan

SHARD_SUFFIXES = (".tar", ".tar.gz", ".tgz")

REMOTE_THREADS = 16
"""Remote shards read at once: their time is mostly waiting."""


@dataclass(frozen=True, slots=True)
class IndexedShard:
    num_samples: int
    num_bytes: int
    sha256: str
    max_label: int
    """-1 when no sample has a label."""
    has_lists: bool
    """Whether some sample has a number of labels other than one."""


def expand_urls(patterns: Iterable[str], access: AccessPlan = DEFAULT_ACCESS) -> list[str]:
    """Shards named by folders, wildcards and braces (`x-{00000..00009}.tar`), local or remote, in the order given,
    sorted inside a folder or wildcard."""
    remote = RemoteFiles(access.storage)
    locations: list[str] = []
    for pattern in patterns:
        for name in _expand_braces(pattern):
            if is_url(name):
                found = remote.find(name, SHARD_SUFFIXES)
            elif Path(name).is_dir():
                found = sorted(str(path) for path in Path(name).iterdir() if path.name.endswith(SHARD_SUFFIXES))
            else:
                found = sorted(glob.glob(name))
            if not found:
                raise UserError(f"{name}: no shards ({', '.join(SHARD_SUFFIXES)}) found there; name a folder or files")
            locations += found
    repeated = [location for location, count in Counter(locations).items() if count > 1]
    if repeated:
        raise UserError(f"{repeated[0]} is named twice; every shard counts once")
    return locations


def index_shards(
    locations: Sequence[str],
    out: Path,
    *,
    access: AccessPlan = DEFAULT_ACCESS,
    name: str,
    classes: Sequence[str] | None = None,
    label_type: LabelType | None = None,
    threads: int | None = None,
    progress: Callable[[int, int, int], None] = lambda done, total, samples: None,
) -> Manifest:
    """Read every shard once and write the manifest `out`.

    Class names default to `0`, `1`, … up to the largest label. The label type is `single` when every sample has
    exactly one label, unless told otherwise. `progress(done, all, samples so far)` is called per shard.
    """
    facts: list[IndexedShard] = []
    num_samples = 0
    files = ShardFiles(access)
    if threads is None:
        threads = REMOTE_THREADS if any(map(is_url, locations)) else os.cpu_count()
    with ThreadPoolExecutor(threads) as pool:
        for fact in pool.map(lambda location: index_shard(location, files), locations):
            facts.append(fact)
            num_samples += fact.num_samples
            progress(len(facts), len(locations), num_samples)
    num_needed = max((fact.max_label for fact in facts), default=-1) + 1
    if num_needed == 0:
        raise UserError(
            f"{locations[0]} … hold no labelled samples; each needs an image and a .cls or .json of one key"
        )
    if classes is None:
        classes = [str(number) for number in range(num_needed)]
    elif len(classes) < num_needed:
        raise UserError(f"--classes names {len(classes)} classes, but labels go up to {num_needed - 1}; name them all")
    has_lists = any(fact.has_lists for fact in facts)
    if label_type == "single" and has_lists:
        raise UserError("--label-type single: some samples have no label or several; leave it out or repair them")
    folder = out.parent.resolve()
    return build_manifest(
        name=name,
        label_type=label_type or ("multi" if has_lists else "single"),
        classes=classes,
        folder=folder,
        urls=[_url(location, folder) for location in locations],
        num_samples=[fact.num_samples for fact in facts],
        num_bytes=[fact.num_bytes for fact in facts],
        sha256=[fact.sha256 for fact in facts],
        origin={"made_by": "scaling.data index"},
    ).save(out)


def index_shard(location: str, files: ShardFiles) -> IndexedShard:
    """Count, checksum and label range of one shard; images are not decoded."""
    tar = files.open(location)
    shard = Shard(location, tar)
    if not len(shard):
        raise CorruptShardError(
            f"shard {location} holds no samples; each needs an image and a .cls or .json of one key"
        )
    labels = shard.read_labels(range(len(shard)))
    for row, numbers in enumerate(labels):
        if any(number < 0 for number in numbers):
            raise CorruptShardError(
                f"shard {location}: sample {shard.key(row)!r} has the labels {numbers}; classes count from 0"
            )
    return IndexedShard(
        num_samples=len(labels),
        num_bytes=tar.copy.stat().st_size,
        sha256=file_sha256(tar.copy),
        max_label=max((number for numbers in labels for number in numbers), default=-1),
        has_lists=any(len(numbers) != 1 for numbers in labels),
    )


def _url(location: str, folder: Path) -> str:
    """Relative to the manifest when the shard lies below it, so that both can be moved together; else absolute."""
    if is_url(location):
        return location
    absolute = Path(location).resolve()
    return str(absolute.relative_to(folder)) if absolute.is_relative_to(folder) else str(absolute)


def _expand_braces(pattern: str) -> list[str]:
    """`a-{000..002}.tar` -> three names; `{a,b}` -> two. Several braces multiply."""
    match = re.search(r"\{([^{}]*)\}", pattern)
    if match is None:
        return [pattern]
    numbers = re.fullmatch(r"(\d+)\.\.(\d+)", match[1])
    if numbers:
        low, high = int(numbers[1]), int(numbers[2])
        options = [str(number).zfill(len(numbers[1])) for number in range(low, high + 1)]
    else:
        options = match[1].split(",")
    head, tail = pattern[: match.start()], pattern[match.end() :]
    return [name for option in options for name in _expand_braces(head + option + tail)]
