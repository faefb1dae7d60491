"""Training samples that are held out to make a choice on: exact in count, drawn by a seed, disjoint from the rest.

They are excluded from training as any other excluded samples are, and validation reads them by their positions.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scaling.data.format.exclusion_list import make_exclusion
from scaling.data.format.manifest import Manifest
from scaling.data.select.exclusion import Exclusion
from scaling.data.select.random_streams import RandomStream, generator


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Held-out samples, named in two ways."""

    positions: NDArray[np.int64]
    """Canonical positions, increasing: what validation reads."""
    exclusion: Exclusion
    """The same samples as training passes them over; its digest names them."""


def hold_out(manifest: Manifest, num_samples: int, seed: int) -> HeldOut:
    """`num_samples` of a data set's samples, at least one and not all, each choice of so many equally likely."""
    assert 0 < num_samples < manifest.num_samples, num_samples
    order = generator(seed, RandomStream.HELD_OUT).permutation(manifest.num_samples)
    positions = np.sort(order[:num_samples]).astype(np.int64)
    ends = np.cumsum(manifest.shard_samples)
    shards = np.searchsorted(ends, positions, side="right")
    indices = positions - (ends - manifest.shard_samples)[shards]
    return HeldOut(positions, make_exclusion(manifest, list(zip(shards.tolist(), indices.tolist(), strict=True))))
