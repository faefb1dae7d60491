"""Images that two data sets have in common under one key, found without decoding any.

Keys are read from the headers of the shards. Many data sets count their samples from 0, so an equal key alone says
nothing: the bytes of both images are compared. Near-copies are for `python -m scaling.data dedup`.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from scaling.data.format.manifest import Manifest
from scaling.data.format.open_shards import OpenShards

Opened = tuple[Manifest, OpenShards]
"""A data set and its shards."""

WAY_OUT = "give a test set of other images (python -m scaling.data dedup finds copies, near-copies too)"

Place = tuple[str, int, int]
"""Key, shard and index of a sample."""


def find_copies(held_out: Opened, learned: Opened, chosen: NDArray[np.int64] | None = None) -> list[str]:
    """Keys of samples of `held_out` whose image is, byte for byte, that of the sample of the same key in `learned`: of
    all of it, or of its `chosen` canonical positions."""
    known: dict[str, list[tuple[int, int]]] = {}
    for key, shard, index in _places(*learned, chosen):
        known.setdefault(key, []).append((shard, index))
    ours, theirs = held_out[1], learned[1]
    return [
        key
        for key, shard, index in _places(*held_out)
        if any(ours.get(shard).read_image(index) == theirs.get(one).read_image(two) for one, two in known.get(key, ()))
    ]


def copies_problem(copies: list[str], num_test: int, learned_name: str, test_name: str) -> str | None:
    """The sentence on `copies`, keys of test images that were learned from; None for none."""
    if not copies:
        return None
    return (
        f"{len(copies):,} of the {num_test:,} images of {test_name} are in {learned_name} too, under the same key such "
        f"as {copies[0]!r}; {WAY_OUT}"
    )


def _places(manifest: Manifest, shards: OpenShards, chosen: NDArray[np.int64] | None = None) -> Iterator[Place]:
    """Every sample in canonical order, or the chosen ones; each shard is opened once, and only where it is needed."""
    ends = np.cumsum(manifest.shard_samples)
    for number, end in enumerate(ends.tolist()):
        start = end - int(manifest.shard_samples[number])
        wanted = np.arange(start, end) if chosen is None else chosen[(chosen >= start) & (chosen < end)]
        if not len(wanted):
            continue
        shard = shards.get(number)
        for index in (wanted - start).tolist():
            yield shard.key(index), number, index
