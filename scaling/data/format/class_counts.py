"""How many images each class has, counted from the labels in the shards without touching an image.

A class that one image lists twice counts once. A label that the manifest does not allow is refused, because counting
it elsewhere, or not at all, would tell a wrong tail.
"""

from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

from scaling.data.format.manifest import Manifest
from scaling.data.format.open_shards import OpenShards
from scaling.data.storage.integrity import CorruptSampleError


def count_classes(
    manifest: Manifest,
    samples: Iterable[tuple[int, Iterable[int]]],
    progress: Callable[[int], None] = lambda num_samples: None,
) -> NDArray[np.int64]:
    """Images of every class (number of classes,) among `samples`, pairs of a shard and indices inside it.

    `progress(samples so far)` is called per shard; CorruptSampleError names a sample whose label cannot be used.
    """
    # Reading every shard twice for a count would double its time; `validate` is the command that checks.
    shards = OpenShards(manifest, verify=False)
    counts = np.zeros(len(manifest.classes), dtype=np.int64)
    num_samples = 0
    for shard_id, indices in samples:
        shard, places = shards.get(shard_id), list(indices)
        labels = shard.read_labels(places)
        for index, row in zip(places, labels, strict=True):
            if problem := manifest.label_problem(row):
                raise CorruptSampleError(f"shard {shard.location}: sample {shard.key(index)!r} {problem}")
        np.add.at(counts, [label for row in labels for label in set(row)], 1)
        num_samples += len(places)
        progress(num_samples)
    return counts
