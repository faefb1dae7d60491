"""Writing one shard: a tar whose bytes depend on its samples alone.

Headers carry no time, owner or mode of the machine, and a shard appears under its name only when it is complete.
"""

import io
import os
import tarfile
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from scaling.data.format.shard import Shard
from scaling.data.storage.integrity import file_sha256
from scaling.jft_like.splits import Sample

PARTIAL_SUFFIX = ".partial"


@dataclass(frozen=True, slots=True)
class ShardFile:
    """What a manifest says about a shard."""

    num_bytes: int
    sha256: str
    class_counts: Counter[int]
    """Samples by class number."""


def write_shard(path: Path, samples: Iterable[Sample]) -> ShardFile:
    """Write the samples to `path`, by way of a temporary name beside it."""
    partial = path.with_name(path.name + PARTIAL_SUFFIX)
    with partial.open("wb") as stream, tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for sample in samples:
            _add(archive, f"{sample.key}.{sample.image_extension}", sample.image)
            _add(archive, f"{sample.key}.{sample.label_extension}", sample.label)
    with partial.open("rb") as written:
        os.fsync(written.fileno())
    facts = read_facts(partial)
    partial.replace(path)
    return facts


def read_facts(path: Path) -> ShardFile:
    """Size, checksum and class counts of a shard on disk."""
    shard = Shard(str(path))
    counts: Counter[int] = Counter()
    for labels in shard.read_labels(range(len(shard))):
        counts.update(set(labels))
    return ShardFile(path.stat().st_size, file_sha256(path), counts)


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    header = tarfile.TarInfo(name)
    header.size = len(content)
    archive.addfile(header, io.BytesIO(content))
