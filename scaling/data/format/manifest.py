"""A manifest: what a data set consists of, shard by shard, without touching a shard.

The file is columnar JSON, so that 300,000 shards stay a few tens of megabytes and load in about a second:

    {"schema": 1, "name": "…", "label_type": "multi" | "single", "classes": [names], "num_samples": N,
     "num_bytes": M, "digest": "…", "shards": {"url": […], "num_samples": […], "bytes": […], "sha256": […]},
     "origin": {…}, "class_counts": [samples of each class], "labels": {…}, "shard_labels": {"spread": …, "p_value": …}}

The last three may be missing: how often each class occurs, what stands in the labels when that is no class number (see
`labels`), and whether label frequencies differ along the shards (see `homogeneity`).

The digest names the content (labels' meaning, order and checksums of the shards), not where it is stored, so data may
be moved or copied without becoming other data. A data set that exists elsewhere can be *declared* by count, with
no shards: enough to plan a study, and refused by training:

    {"schema": 1, "declared": true, "name": "…", "label_type": "multi", "num_classes": 18291, "num_samples": 302000000}
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from scaling.data.format.homogeneity import Homogeneity
from scaling.data.format.labels import CLASS_NUMBERS, LabelRule
from scaling.errors import UserError, unprintable
from scaling.records.files import make_folder, write_text_atomic
from scaling.records.run_plan import DEFAULT_ACCESS, AccessPlan, content_digest

MANIFEST_SCHEMA = 1

LabelType = Literal["single", "multi"]


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
    folder: Path | str
    """What relative urls start at: a folder, or a url without a slash at its end."""
    access: AccessPlan = DEFAULT_ACCESS
    """How remote shards are reached."""
    label_rule: LabelRule = CLASS_NUMBERS
    """How what stands in the shards becomes class numbers."""
    ignore: tuple[str, ...] = ()
    """Patterns of members of the shards that are left out, images with their samples."""
    class_counts: NDArray[np.int64] | None = None
    """Samples of each class, (number of classes,), one that has several labels counts for each; None when unknown."""
    homogeneity: Homogeneity | None = None
    """Whether label frequencies differ along the shards; None when they were shuffled or not compared."""

    @property
    def has_class_names(self) -> bool:
        """Whether classes have names, not numbers only, and so can be compared with those of another data set."""
        return not self.is_declared and self.classes != tuple(map(str, range(len(self.classes))))

    @property
    def is_declared(self) -> bool:
        """Known by count only: good for planning."""
        return not self.urls and self.num_samples > 0

    def shard_location(self, shard_id: int) -> str:
        """Absolute path or url of a shard."""
        url = self.urls[shard_id]
        if "://" in url:
            return url
        return str(self.folder / url) if isinstance(self.folder, Path) else f"{self.folder}/{url}"

    def shard_row(self, shard_id: int) -> tuple[str, int, str]:
        """Location, bytes and sha256 of a shard."""
        return self.shard_location(shard_id), int(self.shard_bytes[shard_id]), self.shard_sha256[shard_id]

    def label_problem(self, labels: Sequence[int]) -> str | None:
        """What is wrong with a sample's class numbers, as the end of a sentence; None when nothing is."""
        if labels and not 0 <= min(labels) <= max(labels) < len(self.classes):
            return f"has the labels {list(labels)}, but the manifest has {len(self.classes)} classes"
        if len(labels) != 1 and self.label_type == "single":
            return f"has {len(labels)} labels, but the data set is single-label"
        return None

    def save(self, path: Path) -> Self:
        """Write the manifest; its folder must be `self.folder` when urls are relative."""
        body: dict[str, Any] = {"schema": MANIFEST_SCHEMA, "name": self.name, "label_type": self.label_type}
        if self.is_declared:
            body |= {"declared": True, "num_classes": len(self.classes), "num_samples": self.num_samples}
        else:
            body |= {
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
            if self.class_counts is not None:
                body["class_counts"] = self.class_counts.tolist()
            if self.label_rule != CLASS_NUMBERS:
                body["labels"] = self.label_rule.to_json()
            if self.ignore:
                body["ignore"] = list(self.ignore)
            if self.homogeneity is not None:
                body["shard_labels"] = asdict(self.homogeneity)
        make_folder(path.parent)
        write_text_atomic(path, json.dumps(body, ensure_ascii=False, indent=1) + "\n")
        return self


def check_name(name: str | None) -> None:
    """UserError for a name of a data set (--name) that is not printable."""
    if name is not None and (not name.strip() or unprintable(name)):
        raise UserError(f"--name {name!r} is blank or not printable; give letters, such as 'photos'")


def build_manifest(
    *,
    name: str,
    label_type: LabelType,
    classes: Sequence[str],
    folder: Path | str,
    urls: Sequence[str],
    num_samples: Sequence[int],
    num_bytes: Sequence[int],
    sha256: Sequence[str],
    origin: Mapping[str, Any],
    label_rule: LabelRule = CLASS_NUMBERS,
    ignore: Sequence[str] = (),
    class_counts: Sequence[int] | None = None,
    homogeneity: Homogeneity | None = None,
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
        digest=_digest(label_type, classes, num_samples, sha256, label_rule, ignore),
        origin=origin,
        folder=folder,
        label_rule=label_rule,
        ignore=tuple(ignore),
        class_counts=None if class_counts is None else np.asarray(class_counts, dtype=np.int64),
        homogeneity=homogeneity,
    )


def declare_manifest(
    name: str, label_type: LabelType, num_classes: int, num_samples: int, folder: Path | str
) -> Manifest:
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


def _digest(
    label_type: str,
    classes: Sequence[str],
    num_samples: Sequence[int],
    sha256: Sequence[str],
    rule: LabelRule,
    ignore: Sequence[str],
) -> str:
    content: dict[str, Any] = {
        "label_type": label_type,
        "classes": list(classes),
        "num_samples": list(num_samples),
        "sha256": list(sha256),
    }
    # Where labels are class numbers, the digest is that of manifests from before there were other forms.
    if rule != CLASS_NUMBERS:
        content["labels"] = rule.to_json()
    if ignore:
        content["ignore"] = list(ignore)
    return content_digest(content)
