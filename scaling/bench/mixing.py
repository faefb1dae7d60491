"""How well the training order mixes: from how many shards a batch comes, beside a uniform shuffle of all samples."""

import numpy as np

from scaling.data.format.manifest import Manifest
from scaling.data.select.order import SampleOrder
from scaling.data.select.subset import select_subset

NUM_BATCHES = 20
"""Spread evenly over the first epoch."""


def shards_in_a_batch(manifest: Manifest, batch: int) -> tuple[float, float]:
    """Mean number of different shards in a batch, and the effective one: 1 / sum of squared shares, which counts a
    shard for less the fewer samples it gives."""
    order = SampleOrder(select_subset(manifest, 1.0, 0), 0)
    distinct, effective = [], []
    for start in np.linspace(0, manifest.num_samples - batch, NUM_BATCHES).astype(np.int64):
        _, counts = np.unique(order.locate(np.arange(start, start + batch))[0], return_counts=True)
        distinct.append(len(counts))
        effective.append(batch**2 / (counts**2).sum())
    return float(np.mean(distinct)), float(np.mean(effective))


def shards_if_uniform(manifest: Manifest, batch: int) -> float:
    """Expected number of different shards when every sample of a batch is drawn from all of them."""
    shares = manifest.shard_samples / manifest.num_samples
    return float((1 - (1 - shares) ** batch).sum())
