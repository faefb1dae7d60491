"""Training images that are also evaluation images, or nearly: found by bytes first, then by look.

Evaluation sets are hashed first and kept (about 100 bytes an image); the training set passes by shard by shard, so
memory does not grow with it. Every training image is decoded once, which is nearly all the time it takes. An image
that cannot be decoded is compared by its bytes alone and counted.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from scaling.data.format.manifest import Manifest
from scaling.data.format.open_shards import OpenShards
from scaling.data.read.images.decode import DecodeError, decode_rgb
from scaling.data.read.look_ahead import in_order
from scaling.data.tools.perceptual_hash import near_pairs, perceptual_hash

Progress = Callable[[int, int, int], None]


class SampleLocation(NamedTuple):
    """One sample of one data set."""

    shard: int
    number: int
    """Of the sample in its shard, from 0."""
    key: str


class Match(NamedTuple):
    """A training image and an evaluation image that are too alike."""

    train: SampleLocation
    evaluation: int
    """Number of the evaluation set."""
    val: SampleLocation
    distance: int
    """Bits of the perceptual hash that differ; -1 for equal bytes."""


EQUAL_BYTES = -1


@dataclass(frozen=True, slots=True)
class ShardHashes:
    """Fingerprints of a shard's images, in tar order."""

    keys: list[str]
    contents: list[bytes]
    looks: NDArray[np.uint64]
    """Perceptual hashes of the images that have one …"""
    owners: NDArray[np.int64]
    """… and which images these are."""
    num_unreadable: int


@dataclass(frozen=True, slots=True)
class Findings:
    matches: list[Match]
    """By training sample; the nearest evaluation image of each set first."""
    num_train: int
    num_evaluation: int
    num_unreadable: int


def find_duplicates(
    train: Manifest, evaluations: Sequence[Manifest], distance: int, threads: int, progress: Progress
) -> Findings:
    """All pairs of a training and an evaluation image with equal bytes, or whose perceptual hashes differ in at most
    `distance` of 64 bits. `progress(done, all, done)` counts images of all sets."""
    total = train.num_samples + sum(manifest.num_samples for manifest in evaluations)
    num_done = num_unreadable = 0
    by_content: dict[bytes, list[tuple[int, SampleLocation]]] = {}
    looks, owners = [], []
    with ThreadPoolExecutor(threads) as pool:
        for number, manifest in enumerate(evaluations):
            for shard, hashes in enumerate(_hash_shards(manifest, pool, threads)):
                for index, (key, content) in enumerate(zip(hashes.keys, hashes.contents, strict=True)):
                    by_content.setdefault(content, []).append((number, SampleLocation(shard, index, key)))
                looks.append(hashes.looks)
                owners += [(number, SampleLocation(shard, i, hashes.keys[i])) for i in hashes.owners.tolist()]
                num_done += len(hashes.keys)
                num_unreadable += hashes.num_unreadable
                progress(num_done, total, num_done)
        evaluation_looks = np.concatenate(looks) if looks else np.zeros(0, np.uint64)
        matches: list[Match] = []
        for shard, hashes in enumerate(_hash_shards(train, pool, threads)):
            equal = {
                (index, number, val): Match(SampleLocation(shard, index, hashes.keys[index]), number, val, EQUAL_BYTES)
                for index, content in enumerate(hashes.contents)
                for number, val in by_content.get(content, ())
            }
            for row, column, bits in near_pairs(hashes.looks, evaluation_looks, distance):
                index = int(hashes.owners[row])
                number, val = owners[column]
                match = Match(SampleLocation(shard, index, hashes.keys[index]), number, val, bits)
                equal.setdefault((index, number, val), match)
            matches += sorted(equal.values(), key=lambda match: (match.train.number, match.evaluation, match.distance))
            num_done += len(hashes.keys)
            num_unreadable += hashes.num_unreadable
            progress(num_done, total, num_done)
    return Findings(matches, train.num_samples, num_done - train.num_samples, num_unreadable)


def _hash_shards(manifest: Manifest, pool: ThreadPoolExecutor, threads: int) -> Iterator[ShardHashes]:
    """Shards in canonical order; a few more than there are threads are under way."""
    shards = OpenShards(manifest)
    return in_order(pool, (partial(_hash_shard, shards, n) for n in range(len(manifest.urls))), ahead=2 * threads)


def _hash_shard(shards: OpenShards, number: int) -> ShardHashes:
    shard = shards.get(number)
    contents, looks, owners, num_unreadable = [], [], [], 0
    for index in range(len(shard)):
        encoded = shard.read_image(index)
        contents.append(hashlib.blake2b(encoded, digest_size=16).digest())
        try:
            look = perceptual_hash(decode_rgb(encoded))
        except DecodeError:
            num_unreadable += 1
            continue
        if look is not None:
            looks.append(look)
            owners.append(index)
    return ShardHashes(
        keys=[shard.key(index) for index in range(len(shard))],
        contents=contents,
        looks=np.array(looks, dtype=np.uint64),
        owners=np.array(owners, dtype=np.int64),
        num_unreadable=num_unreadable,
    )
