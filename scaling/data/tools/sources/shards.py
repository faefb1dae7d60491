"""Samples of shards that are there already."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scaling.data.format.manifest import LabelType, Manifest
from scaling.data.format.open_shards import OpenShards
from scaling.data.select.subset import Subset
from scaling.data.storage.integrity import CorruptSampleError
from scaling.data.tools.sources.renumbering import renumber
from scaling.data.tools.sources.source import NO_OPTIONS, BadSampleError, LeftOut, SourceOptions
from scaling.errors import UserError


class ShardSource:
    """A subset of a data set that is in shards already."""

    def __init__(self, manifest: Manifest, subset: Subset, options: SourceOptions = NO_OPTIONS) -> None:
        if options.label_type not in (None, "multi", manifest.label_type):
            raise UserError(
                f"--label-type {options.label_type}: the data set {manifest.name!r} is {manifest.label_type}-label; "
                "leave it out"
            )
        self._names = manifest.classes
        self._renumbering = renumber(manifest.classes, options.classes)
        self.classes: Sequence[str] = self._renumbering.classes
        self.label_type: LabelType = "multi" if options.label_type == "multi" else manifest.label_type
        self.left_out: dict[str, LeftOut] = {}
        self.num_unlabelled = 0
        self.num_repeated = 0
        self.class_counts: NDArray[np.int64] | None = None
        if self._renumbering.numbers is None and subset.num_samples == manifest.num_samples:
            self.class_counts = manifest.class_counts
        self._subset = subset
        self._shards = OpenShards(manifest)

    def references(self) -> Iterator[tuple[int, int]]:
        for place, shard_id in enumerate(self._subset.shard_ids.tolist()):
            for index in self._subset.indices_of(place):
                yield shard_id, index

    def read(self, reference: Any) -> tuple[bytes, list[int]]:
        shard_id, index = reference
        try:
            encoded, labels = self._shards.get(shard_id).read(index)
        except CorruptSampleError as error:
            raise BadSampleError(str(error)) from error
        return encoded, self._renumbering.apply(labels, self._names)
