"""Every promise of a manifest checked against its shards, and what a study should know before it trains on them.

Per shard: size, checksum, tar structure, count; per sample: label and image. Across shards: keys and images
that occur twice, and whether label frequencies differ by more than chance. Problems are collected, never repaired,
and nothing but one shard at a time per thread is held, besides 16 bytes a sample.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from scaling.data.format.homogeneity import MAX_COMPARED_SHARDS, Homogeneity, PieceCounts, compare_label_counts
from scaling.data.format.ignore import Ignore
from scaling.data.format.manifest import Manifest
from scaling.data.format.shard import Shard
from scaling.data.read.images.decode import DecodeError, decode_rgb
from scaling.data.storage.integrity import CorruptSampleError, file_sha256
from scaling.data.storage.shard_files import ShardFiles
from scaling.errors import UserError


@dataclass(frozen=True, slots=True)
class Finding:
    kind: str
    """`unreadable`, `checksum`, `count`, `no end marker`, `label`, `image`, `class counts`."""
    text: str


@dataclass(slots=True)
class ShardReport:
    findings: list[Finding] = field(default_factory=list)
    key_hashes: list[bytes] = field(default_factory=list)
    image_hashes: list[bytes] = field(default_factory=list)
    label_pieces: list[Counter[int]] = field(default_factory=list)
    """Samples of each piece of the shard by their first label."""
    num_unlabelled: int = 0
    class_counts: Counter[int] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class Validation:
    """What was found in a whole data set."""

    findings: list[Finding]
    num_samples: int
    """Read in all shards that could be opened."""
    num_repeated_keys: int
    """Samples whose key an earlier sample has, in whichever shard."""
    num_repeated_images: int
    """Samples whose image an earlier sample has, byte for byte."""
    num_unlabelled: int
    homogeneity: Homogeneity | None


def validate_data(
    manifest: Manifest,
    *,
    decode: bool = True,
    threads: int = 1,
    progress: Callable[[int, int, int], None] = lambda done, total, samples: None,
) -> Validation:
    """Read every byte of a data set. `progress(done, all, samples so far)` is called per shard."""
    if manifest.is_declared:
        raise UserError(f"data set {manifest.name!r} is declared by count only; there is nothing to validate")
    findings: list[Finding] = []
    keys, images, labels = [], [], list[Counter[int]]()
    counts: Counter[int] = Counter()
    num_samples = num_unlabelled = 0
    every = -(-len(manifest.urls) // MAX_COMPARED_SHARDS)
    with ThreadPoolExecutor(threads) as pool:
        files = ShardFiles(manifest.access)
        reports = pool.map(lambda number: check_shard(manifest, files, number, decode), range(len(manifest.urls)))
        for shard_id, report in enumerate(reports):
            findings += report.findings
            keys.append(_as_numbers(report.key_hashes))
            images.append(_as_numbers(report.image_hashes))
            if shard_id % every == 0:
                labels += report.label_pieces
            num_samples += len(report.key_hashes)
            num_unlabelled += report.num_unlabelled
            counts.update(report.class_counts)
            progress(shard_id + 1, len(manifest.urls), num_samples)
    findings += _compare_counts(manifest, counts, findings)
    return Validation(
        findings=findings,
        num_samples=num_samples,
        num_repeated_keys=_num_repeated(keys),
        num_repeated_images=_num_repeated(images),
        num_unlabelled=num_unlabelled,
        homogeneity=compare_label_counts(labels),
    )


def check_shard(manifest: Manifest, files: ShardFiles, shard_id: int, decode: bool) -> ShardReport:
    """Check one shard against its row of the manifest; a remote one is fetched for it, whatever a cache holds."""
    report = ShardReport()
    location, _, sha256 = manifest.shard_row(shard_id)
    try:
        tar = files.open(location)
        shard = Shard(location, tar, manifest.label_rule, Ignore(manifest.ignore))
    except UserError as error:
        report.findings.append(Finding("unreadable", str(error)))
        return report
    if file_sha256(tar.copy) != sha256:
        report.findings.append(
            Finding("checksum", f"shard {location} is not the file that was indexed: its sha256 differs")
        )
    expected = int(manifest.shard_samples[shard_id])
    if len(shard) != expected:
        text = f"shard {location} holds {len(shard)} samples, but the manifest says {expected}"
        report.findings.append(Finding("count", text))
    if not shard.has_end_marker:
        text = f"shard {location} has no end marker; samples at its end may have been cut off"
        report.findings.append(Finding("no end marker", text))
    pieces = PieceCounts(len(manifest.urls), len(shard))
    report.label_pieces = pieces.pieces
    for index in range(len(shard)):
        _check_sample(manifest, shard, index, decode, report, pieces)
    return report


def _compare_counts(manifest: Manifest, counts: Counter[int], findings: list[Finding]) -> list[Finding]:
    """Whether the manifest's samples per class are those of the shards, when these were read without a problem."""
    if manifest.class_counts is None or findings:
        return []
    wrong = [number for number, count in enumerate(manifest.class_counts.tolist()) if counts[number] != count]
    if not wrong:
        return []
    first = wrong[0]
    text = (
        f"the manifest counts {manifest.class_counts[first]:,} samples of class {manifest.classes[first]!r}, but its "
        f"shards hold {counts[first]:,} ({len(wrong):,} classes differ)"
    )
    return [Finding("class counts", text)]


def _check_sample(
    manifest: Manifest, shard: Shard, index: int, decode: bool, report: ShardReport, pieces: PieceCounts
) -> None:
    key = shard.key(index)
    report.key_hashes.append(_short_hash(key.encode("utf-8", "surrogateescape")))
    try:
        encoded, labels = shard.read(index)
    except CorruptSampleError as error:
        report.findings.append(Finding("label", str(error)))
        return
    report.image_hashes.append(_short_hash(encoded))
    pieces.add(index, labels)
    report.num_unlabelled += not labels
    report.class_counts.update(set(labels))
    problem = manifest.label_problem(labels)
    if problem:
        report.findings.append(Finding("label", f"shard {shard.location}: sample {key!r} {problem}"))
    if decode:
        try:
            decode_rgb(encoded)
        except DecodeError as error:
            report.findings.append(
                Finding("image", f"shard {shard.location}: the image of sample {key!r} cannot be decoded ({error})")
            )


def _short_hash(data: bytes) -> bytes:
    """64 bits: among 300 million samples about 0.002 pairs collide."""
    return hashlib.blake2b(data, digest_size=8).digest()


def _as_numbers(hashes: Iterable[bytes]) -> NDArray[np.uint64]:
    return np.frombuffer(b"".join(hashes), dtype=np.uint64)


def _num_repeated(parts: list[NDArray[np.uint64]]) -> int:
    everything = np.sort(np.concatenate(parts))
    return int((everything[1:] == everything[:-1]).sum())
