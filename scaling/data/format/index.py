"""A manifest for existing WebDataset shards: counts, checksums and classes, read from the tars as they are.

What could be read in two ways is refused with a way out: lists that are 0/1 vectors, class numbers with large gaps,
archives or folders beside the shards that are not read.
"""

import glob
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from braceexpand import braceexpand

from scaling.data.format.class_names import ClassNames
from scaling.data.format.homogeneity import MAX_COMPARED_SHARDS, PieceCounts, compare_label_counts
from scaling.data.format.ignore import Ignore
from scaling.data.format.labels import CLASS_NUMBERS, MAX_CLASSES, LabelRule, is_vector
from scaling.data.format.manifest import LabelType, Manifest, build_manifest
from scaling.data.format.shard import Shard
from scaling.data.storage.integrity import CorruptShardError, file_sha256
from scaling.data.storage.remote import RemoteFiles, is_url
from scaling.data.storage.shard_files import ShardFiles
from scaling.errors import UserError
from scaling.records.files import make_folder
from scaling.records.run_plan import DEFAULT_ACCESS, AccessPlan

SHARD_SUFFIXES = (".tar", ".tar.gz", ".tgz")

OTHER_ARCHIVES = (".tar.bz2", ".tar.xz", ".tar.zst", ".tar.lz4", ".zip", ".tar.part", ".tar.tmp", ".tar.partial")
"""Names in a folder of shards that are probably shards of it too."""

REMOTE_THREADS = 16
"""Remote shards read at once: their time is mostly waiting."""

MAX_EXPANSION = 10_000_000
"""Shards that braces may name."""

MAX_UNUSED = 1000
"""Class numbers without a sample, above which labels that mostly have gaps are taken for identifiers."""

BRACE_RANGE = re.compile(r"\{(-?\d{1,15})\.\.(-?\d{1,15})(?:\.\.-?\d+)?\}")

LabelForm = Literal["single", "multi", "one-hot", "multi-hot"]
"""How labels are to be read: lists of class numbers, or vectors with a 0 or 1 for every class."""


@dataclass(slots=True)
class IndexedShard:
    """What one shard holds."""

    num_samples: int
    num_bytes: int
    sha256: str
    counts: Counter[int] = field(default_factory=Counter)
    """Samples by the value in their label; one that is repeated there counts once."""
    label_pieces: list[Counter[int]] = field(default_factory=list)
    """Samples of each piece of the shard by the first value of their label, NO_LABEL for none."""
    num_several: int = 0
    """Samples with two or more different labels."""
    num_unlabelled: int = 0
    """Samples without a label."""
    first_unlabelled: str = ""
    """Key of the first of them."""
    empty_images: list[str] = field(default_factory=list)
    """Keys of the samples whose image has no bytes."""
    vector_length: int = 0
    """Of 0/1 vectors, when every label of the shard looks like one of the same length; else 0."""
    passed_over: Counter[str] = field(default_factory=Counter)
    """Members that are no part of a sample."""

    def add(self, key: str, labels: list[int]) -> None:
        """Count the labels of the sample of this key."""
        different = set(labels)
        self.counts.update(different)
        self.num_several += len(different) > 1
        if not labels:
            self.first_unlabelled = self.first_unlabelled or key
            self.num_unlabelled += 1


@dataclass(frozen=True)
class IndexReport:
    """A manifest that was written, and what its reader should know about the shards."""

    manifest: Manifest
    num_unlabelled: int
    num_several: int
    """Samples with two or more different labels."""
    passed_over: Counter[str]
    """Members that are no part of a sample, by what follows the key in their names."""
    num_equal_shards: int
    """Shards that hold the same bytes as an earlier one."""
    num_empty_images: int
    """Samples whose image has no bytes."""
    first_empty_image: str
    """Shard and key of the first of them; empty for none."""


def expand_urls(
    patterns: Iterable[str], access: AccessPlan = DEFAULT_ACCESS, ignore: Ignore | None = None
) -> list[str]:
    """Shards named by folders, wildcards and braces (`x-{00000..00009}.tar`), local or remote, in the order given,
    sorted inside a folder or wildcard, without those that `ignore` matches. What exists under the very
    name that is given is meant by it."""
    ignore = ignore or Ignore()
    remote = RemoteFiles(access.storage)
    locations: list[str] = []
    for pattern in patterns:
        literal = not is_url(pattern) and Path(pattern).exists()
        for name in [pattern] if literal else _expand_braces(pattern):
            if is_url(name):
                found = remote.find(name, SHARD_SUFFIXES)
            elif Path(name).is_dir():
                found = _shards_of_folder(Path(name), ignore)
            else:
                found = [name] if Path(name).is_file() else _match_wildcards(name)
            if not found:
                raise UserError(f"{name}: no shards ({', '.join(SHARD_SUFFIXES)}) found there; name a folder or files")
            locations += [location for location in found if not ignore.matches(location)]
    if not locations:
        raise UserError(f"--ignore {' '.join(ignore.patterns)}: every shard is left out; name fewer")
    repeated = [location for location, count in Counter(locations).items() if count > 1]
    if repeated:
        raise UserError(f"{repeated[0]} is named twice; every shard counts once")
    for location in locations:
        if not location.isprintable():
            raise UserError(f"{location!r}: the name is not UTF-8 or holds control characters; rename it")
    return locations


def _match_wildcards(name: str) -> list[str]:
    """Files that a name with wildcards matches; folders that exist literally are meant as they are written."""
    base = Path(Path(name).anchor)
    parts = [part for part in Path(name).parts if part != base.anchor]
    while len(parts) > 1 and (base / parts[0]).exists():
        base /= parts.pop(0)
    return sorted(glob.glob(str(Path(glob.escape(str(base)), *parts))))


def _shards_of_folder(folder: Path, ignore: Ignore) -> list[str]:
    """The shards of a folder; UserError when it holds others that would be lost."""
    found, others = [], []
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.name.endswith(SHARD_SUFFIXES) and path.is_file():
            found.append(str(path))
        elif ignore.matches(path.name):
            continue
        elif path.name.lower().endswith(SHARD_SUFFIXES + OTHER_ARCHIVES) or (
            path.is_dir() and any(inner.name.endswith(SHARD_SUFFIXES) for inner in path.iterdir())
        ):
            others.append(path.name)
    if found and others:
        raise UserError(
            f"{folder} holds {len(found)} shards and {len(others)} that would not be read, such as {others[0]!r}; name "
            f"the ones you mean, for example '{folder}/*.tar', or say --ignore '{others[0]}'"
        )
    return found


def index_shards(
    locations: Sequence[str],
    out: Path,
    *,
    access: AccessPlan = DEFAULT_ACCESS,
    name: str,
    classes: ClassNames | Sequence[str] | None = None,
    label_type: LabelForm | None = None,
    ignore: Ignore | None = None,
    threads: int | None = None,
    progress: Callable[[int, int, int], None] = lambda done, total, samples: None,
) -> Manifest:
    """Read every shard once and write the manifest `out`, without the members that `ignore` matches.

    Class names default to `0`, `1`, … up to the largest label. The label type is `single` when every sample has
    exactly one label, unless told otherwise. `progress(done, all, samples so far)` is called per shard.
    """
    return index_and_report(
        locations,
        out,
        access=access,
        name=name,
        classes=classes,
        label_type=label_type,
        ignore=ignore,
        threads=threads,
        progress=progress,
    ).manifest


def index_and_report(
    locations: Sequence[str],
    out: Path,
    *,
    access: AccessPlan,
    name: str,
    classes: ClassNames | Sequence[str] | None,
    label_type: LabelForm | None,
    ignore: Ignore | None = None,
    threads: int | None,
    progress: Callable[[int, int, int], None],
) -> IndexReport:
    """As `index_shards`, with what a command prints besides."""
    make_folder(out.parent)
    named = ClassNames(tuple(classes)) if classes is not None and not isinstance(classes, ClassNames) else classes
    vectors = label_type in ("one-hot", "multi-hot")
    rule = LabelRule(vectors=True) if vectors else CLASS_NUMBERS
    files = ShardFiles(access)
    if threads is None:
        threads = REMOTE_THREADS if any(map(is_url, locations)) else os.cpu_count()
    shards: list[IndexedShard] = []
    num_samples = 0
    with ThreadPoolExecutor(threads) as pool:
        for shard in pool.map(lambda location: index_shard(location, files, rule, len(locations), ignore), locations):
            shards.append(shard)
            num_samples += shard.num_samples
            progress(len(shards), len(locations), num_samples)
    counts: Counter[int] = Counter()
    for shard in shards:
        counts.update(shard.counts)
    if not counts:
        raise UserError(
            f"{locations[0]} … hold no labelled samples; each needs an image and a .cls or .json of one key"
        )
    found_type = _label_type(label_type, locations, shards)
    values: tuple[int, ...] = ()
    if vectors:
        lengths = {shard.vector_length for shard in shards}
        if len(lengths) > 1 or 0 in lengths:
            raise UserError(f"--label-type {label_type}: not every label is a list of 0 and 1 of one length")
        names = _names(named, max(lengths), {})
    else:
        _refuse_vectors(locations, shards, label_type)
        names, values = _names(named, max(counts) + 1, counts), named.values if named else ()
    final_rule = LabelRule(vectors=vectors, values=values)
    numbers = {value: number for number, value in enumerate(values)} if values else None
    class_counts = [0] * len(names)
    for value, count in counts.items():
        class_counts[numbers[value] if numbers else value] = count
    folder = out.parent.resolve()
    every = -(-len(shards) // MAX_COMPARED_SHARDS)
    manifest = build_manifest(
        name=name,
        label_type=found_type,
        classes=names,
        folder=folder,
        urls=[_url(location, folder) for location in locations],
        num_samples=[shard.num_samples for shard in shards],
        num_bytes=[shard.num_bytes for shard in shards],
        sha256=[shard.sha256 for shard in shards],
        origin={"made_by": "scaling.data index"},
        label_rule=final_rule,
        ignore=ignore.patterns if ignore else (),
        class_counts=class_counts,
        homogeneity=compare_label_counts([piece for shard in shards[::every] for piece in shard.label_pieces]),
    ).save(out)
    passed_over: Counter[str] = Counter()
    for shard in shards:
        passed_over.update(shard.passed_over)
    empty = [
        f"{key!r} of {location}"
        for location, shard in zip(locations, shards, strict=True)
        for key in shard.empty_images
    ]
    return IndexReport(
        manifest,
        num_unlabelled=sum(shard.num_unlabelled for shard in shards),
        num_several=sum(shard.num_several for shard in shards),
        passed_over=passed_over,
        num_equal_shards=len(shards) - len({shard.sha256 for shard in shards}),
        num_empty_images=len(empty),
        first_empty_image=empty[0] if empty else "",
    )


def index_shard(
    location: str,
    files: ShardFiles,
    rule: LabelRule = CLASS_NUMBERS,
    num_shards: int = 1,
    ignore: Ignore | None = None,
) -> IndexedShard:
    """Count, checksum and labels of one shard of `num_shards`; images are not decoded."""
    tar = files.open(location)
    shard = Shard(location, tar, ignore=ignore)
    if not len(shard):
        raise CorruptShardError(
            f"shard {location} holds no samples; each needs an image and a .cls or .json of one key"
        )
    found = IndexedShard(
        num_samples=len(shard),
        num_bytes=tar.copy.stat().st_size,
        sha256=file_sha256(tar.copy),
        passed_over=shard.passed_over,
        empty_images=shard.empty_images,
    )
    pieces = PieceCounts(num_shards, len(shard))
    found.label_pieces = pieces.pieces
    lengths: set[int] = set()
    odd: tuple[int, ValueError] | None = None
    for row, values in enumerate(shard.read_label_values(range(len(shard)))):
        vector = is_vector(values)
        lengths.add(len(values) if vector else 0)
        try:
            labels = rule.class_numbers(values)
        except ValueError as error:
            odd = odd or (row, error)
            if rule.vectors or not vector:
                break
            # In a shard of vectors alone the caller says what they are.
            labels = [int(value) for value in values]
        if any(label < 0 for label in labels):
            raise CorruptShardError(
                f"shard {location}: sample {shard.key(row)!r} has the labels {labels}; classes count from 0"
            )
        found.add(shard.key(row), labels)
        pieces.add(row, labels)
    if odd and (rule.vectors or len(lengths) > 1 or 0 in lengths):
        raise shard.label_error(*odd)
    found.vector_length = lengths.pop() if len(lengths) == 1 else 0
    return found


def _label_type(told: LabelForm | None, locations: Sequence[str], shards: Sequence[IndexedShard]) -> LabelType:
    has_several = any(shard.num_several for shard in shards)
    unlabelled = next((pair for pair in zip(locations, shards, strict=True) if pair[1].num_unlabelled), None)
    if told in ("single", "one-hot"):
        if has_several or unlabelled:
            raise UserError(f"--label-type {told}: some samples have no label or several; leave it out or repair them")
        return "single"
    if unlabelled and not told and not has_several:
        location, shard = unlabelled
        number = sum(shard.num_unlabelled for shard in shards)
        raise UserError(
            f"shard {location}: sample {shard.first_unlabelled!r} has no label ({number:,} such in all), and no sample "
            "has several; give them one, leave them out with --ignore, or say --label-type multi if an image may have "
            "none"
        )
    return "multi" if told or has_several else "single"


def _refuse_vectors(locations: Sequence[str], shards: Sequence[IndexedShard], told: LabelForm | None) -> None:
    lengths = {shard.vector_length for shard in shards}
    if len(lengths) == 1 and lengths != {0}:
        raise UserError(
            f"{locations[0]} …: every label is a list of {lengths.pop()} values, all of them 0 or 1: vectors, or lists "
            "of the classes 0 and 1? say --label-type multi-hot (or one-hot, for one class per image), or pack lists "
            "of class numbers"
        )


def _names(named: ClassNames | None, num_needed: int, counts: dict[int, int]) -> Sequence[str]:
    """Class names; without given ones the numbers, unless there are such gaps that they must be identifiers."""
    if named is not None and named.values:
        missing = next((value for value in sorted(counts) if value not in set(named.values)), None)
        if missing is not None:
            raise UserError(f"--classes gives no name to the label {missing}; name them all")
        return named.names
    if named is not None:
        if len(named.names) < num_needed:
            raise UserError(
                f"--classes names {len(named.names)} classes, but labels go up to {num_needed - 1}; name them all"
            )
        return named.names
    num_unused = num_needed - len(counts) if counts else 0
    if num_needed > MAX_CLASSES or num_unused > max(MAX_UNUSED, len(counts)):
        raise UserError(
            f"labels go up to {num_needed - 1:,}, but only {len(counts):,} different ones occur, so a classifier would "
            "mostly have outputs for nothing; name the classes with --classes FILE, whose lines are label<tab>name"
        )
    return [str(number) for number in range(num_needed)]


def _url(location: str, folder: Path) -> str:
    """Relative to the manifest when the shard is below it, so that both can be moved together; else absolute."""
    if is_url(location):
        return location
    absolute = Path(location).resolve()
    return str(absolute.relative_to(folder)) if absolute.is_relative_to(folder) else str(absolute)


def _expand_braces(pattern: str) -> Iterator[str]:
    """`a-{000..002}.tar` -> three names; `{a,b}` -> two. Several braces multiply."""
    num_names = 1
    for low, high in BRACE_RANGE.findall(pattern):
        if int(low) > int(high):
            raise UserError(f"{pattern}: the range {{{low}..{high}}} counts down; write {{{high}..{low}}}")
        num_names *= int(high) - int(low) + 1
    if num_names > MAX_EXPANSION:
        raise UserError(f"{pattern}: its braces name {num_names:,} shards, above the limit of {MAX_EXPANSION:,}")
    try:
        yield from braceexpand(pattern, escape=False)
    except ValueError as error:
        raise UserError(f"{pattern}: its braces are not balanced and no file has that name") from error
