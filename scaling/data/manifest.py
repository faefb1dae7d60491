"""A manifest: what a data set consists of, shard by shard, without touching a shard.

The file is columnar JSON, so that 300,000 shards stay a few tens of megabytes and load in about a second:

    {"schema": 1, "name": "…", "label_type": "multi" | "single", "classes": [names], "num_samples": N,
     "num_bytes": M, "digest": "…", "shards": {"url": […], "num_samples": […], "bytes": […], "sha256": […]},
     "origin": {…}}

The digest names the content (labels' meaning, order and checksums of the shards), not where it lies, so data may
be moved or copied without becoming other data. A data set that exists elsewhere can be *declared* by count, with
no shards: enough to plan a study, and refused by training.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from scaling.errors import UserError
from scaling.records.files import write_text_atomic
from scaling.records.run_plan import content_digest

MANIFEST_SCHEMA = 1

LabelType = Literal["single", "multi"]

REMAKE = "make it again with 'python -m scaling.data index' or 'make'"


@dataclass(frozen=True)
class Manifest:
    """A data set in WebDataset tar shards, in canonical order: shard by shard, in each in tar order."""

    name: str
    label_type: LabelType
    classes: tuple[str, ...]
    urls: tuple[str, ...]
    """Of each shard; a relative one starts at the manifest's folder."""
    shard_samples: NDArray[np.int64]
    shard_bytes: NDArray[np.int64]
    shard_sha256: tuple[str, ...]
    num_samples: int
    digest: str
    origin: Mapping[str, Any]
    """How the data set came to be; free-form."""
    folder: Path
    """What relative urls start at."""

    @property
    def is_declared(self) -> bool:
        """Known by count only: good for planning."""
        return not self.urls and self.num_samples > 0

    def shard_location(self, shard_id: int) -> str:
        """Absolute path or url of a shard."""
        url = self.urls[shard_id]
        return url if "://" in url else str(self.folder / url)

    def save(self, path: Path) -> Self:
        """Write the manifest; its folder must be `self.folder` when urls are relative."""
        body = {
            "schema": MANIFEST_SCHEMA,
            "name": self.name,
            "label_type": self.label_type,
            "classes": list(self.classes),
            "num_samples": self.num_samples,
            "num_bytes": int(self.shard_bytes.sum()),
            "digest": self.digest,
            "origin": dict(self.origin),
            "shards": {
                "url": list(self.urls),
                "num_samples": self.shard_samples.tolist(),
                "bytes": self.shard_bytes.tolist(),
                "sha256": list(self.shard_sha256),
            },
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text_atomic(path, json.dumps(body, ensure_ascii=False, indent=1) + "\n")
        return self


def build_manifest(
    *,
    name: str,
    label_type: LabelType,
    classes: Sequence[str],
    folder: Path,
    urls: Sequence[str],
    num_samples: Sequence[int],
    num_bytes: Sequence[int],
    sha256: Sequence[str],
    origin: Mapping[str, Any],
) -> Manifest:
    """A manifest from its shards' columns, all of one length and in canonical order."""
    assert len(urls) == len(num_samples) == len(num_bytes) == len(sha256)
    return Manifest(
        name=name,
        label_type=label_type,
        classes=tuple(classes),
        urls=tuple(urls),
        shard_samples=np.asarray(num_samples, dtype=np.int64),
        shard_bytes=np.asarray(num_bytes, dtype=np.int64),
        shard_sha256=tuple(sha256),
        num_samples=int(sum(num_samples)),
        digest=_digest(label_type, classes, num_samples, sha256),
        origin=origin,
        folder=folder,
    )


def declare_manifest(name: str, label_type: LabelType, num_classes: int, num_samples: int, folder: Path) -> Manifest:
    """A data set known by count only."""
    return Manifest(
        name=name,
        label_type=label_type,
        classes=tuple(f"class {number}" for number in range(num_classes)),
        urls=(),
        shard_samples=np.zeros(0, dtype=np.int64),
        shard_bytes=np.zeros(0, dtype=np.int64),
        shard_sha256=(),
        num_samples=num_samples,
        digest=content_digest({"declared": name, "label_type": label_type, "num_samples": num_samples}),
        origin={"declared": True},
        folder=folder,
    )


def load_manifest(path: Path) -> Manifest:
    """Read and check a manifest; UserError says file, field and rule."""
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"manifest {path} cannot be read ({error.strerror}); {REMAKE}") from error
    except ValueError as error:
        raise UserError(f"manifest {path} is not JSON ({error}); {REMAKE}") from error
    try:
        return _from_body(body, path)
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"manifest {path}: field {error} is missing or of the wrong type; {REMAKE}") from error


def _from_body(body: Mapping[str, Any], path: Path) -> Manifest:
    if body["schema"] != MANIFEST_SCHEMA:
        raise UserError(f"manifest {path}: schema {body['schema']!r} is not {MANIFEST_SCHEMA}; {REMAKE}")
    if body["label_type"] not in ("single", "multi"):
        raise UserError(f"manifest {path}: label_type {body['label_type']!r} is neither 'single' nor 'multi'; {REMAKE}")
    if body.get("declared"):
        num_classes, num_samples = int(body["num_classes"]), int(body["num_samples"])
        return declare_manifest(body["name"], body["label_type"], num_classes, num_samples, path.parent)
    shards = body["shards"]
    lengths = {field: len(shards[field]) for field in ("url", "num_samples", "bytes", "sha256")}
    if len(set(lengths.values())) != 1:
        raise UserError(f"manifest {path}: the columns of shards are of different lengths {lengths}; {REMAKE}")
    manifest = build_manifest(
        name=body["name"],
        label_type=body["label_type"],
        classes=body["classes"],
        folder=path.parent,
        urls=shards["url"],
        num_samples=shards["num_samples"],
        num_bytes=shards["bytes"],
        sha256=shards["sha256"],
        origin=body.get("origin", {}),
    )
    if manifest.num_samples != body["num_samples"]:
        counted = f"{manifest.num_samples} in its shards"
        raise UserError(f"manifest {path}: num_samples is {body['num_samples']}, but {counted}; {REMAKE}")
    if manifest.digest != body["digest"]:
        raise UserError(f"manifest {path}: its digest does not fit its content, so it was edited; {REMAKE}")
    if manifest.num_samples == 0:
        raise UserError(f"manifest {path}: it lists no samples; {REMAKE}")
    return manifest


def _digest(label_type: str, classes: Sequence[str], num_samples: Sequence[int], sha256: Sequence[str]) -> str:
    return content_digest(
        {"label_type": label_type, "classes": list(classes), "num_samples": list(num_samples), "sha256": list(sha256)}
    )
