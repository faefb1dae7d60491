"""A manifest: what a data set consists of, shard by shard, without touching a shard.

The file is columnar JSON, so that 300,000 shards stay a few tens of megabytes and load in about a second:

    {"schema": 1, "name": "…", "label_type": "multi" | "single", "classes": [names], "num_samples": N,
     "num_bytes": M, "digest": "…", "shards": {"url": […], "num_samples": […], "bytes": […], "sha256": […]},
     "origin": {…}}

The digest names the content (labels' meaning, order and checksums of the shards), not where it lies, so data may
be moved or copied without becoming other data. A data set that exists elsewhere can be *declared* by count, with
no shards: enough to plan a study, and refused by training:

    {"schema": 1, "declared": true, "name": "…", "label_type": "multi", "num_classes": 18291, "num_samples": 302000000}
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Self, get_args

import numpy as np
from numpy.typing import NDArray

from scaling.data.storage.remote import RemoteFiles, is_url
from scaling.errors import UserError
from scaling.records.files import write_text_atomic
from scaling.records.run_plan import DEFAULT_ACCESS, AccessPlan, content_digest

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
    folder: Path | str
    """What relative urls start at: a folder, or a url without a slash at its end."""
    access: AccessPlan = DEFAULT_ACCESS
    """How remote shards are reached."""

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
        if any(not 0 <= label < len(self.classes) for label in labels):
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
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text_atomic(path, json.dumps(body, ensure_ascii=False, indent=1) + "\n")
        return self


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


def load_manifest(location: Path | str, access: AccessPlan = DEFAULT_ACCESS) -> Manifest:
    """Read and check a manifest at a path or url; UserError says file, field and rule."""
    place = location if isinstance(location, Path) or is_url(location) else Path(location)
    body = _read_json(place, access)
    if not isinstance(body, dict) or body.get("schema") != MANIFEST_SCHEMA:
        found = body.get("schema") if isinstance(body, dict) else type(body).__name__
        raise UserError(f"manifest {place}: schema is {found!r}, but must be {MANIFEST_SCHEMA}; {REMAKE}")
    return replace(_from_fields(_Fields(place, body)), access=access)


def _read_json(place: Path | str, access: AccessPlan) -> Any:
    """The parsed file; its text, as large as all that is parsed, is gone when this returns."""
    try:
        return json.loads(
            place.read_bytes() if isinstance(place, Path) else RemoteFiles(access.storage).read_text(place)
        )
    except OSError as error:
        raise UserError(f"manifest {place} cannot be read ({error.strerror}); {_near(place) or REMAKE}") from error
    except UserError as error:
        raise UserError(f"manifest {error}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"manifest {place} is not JSON ({error}); {REMAKE}") from error


def _near(place: Path | str) -> str:
    """A manifest that the writer of `place` may have meant: the one inside a folder, or beside a missing file."""
    if not isinstance(place, Path) or not place.name:
        return ""
    beside = (place.parent / "manifest.json", place.parent / place.stem / "manifest.json")
    candidates = (place / "manifest.json", place.with_suffix(".json"), *beside)
    found = next((path for path in candidates if path != place and path.is_file()), None)
    return f"did you mean {found}?" if found else ""


def find_manifest(root: str, name: str) -> Path | str:
    """Where a study's manifest lies: an absolute path, or a url when it is one or `root` is."""
    if is_url(name):
        return name
    return f"{root.rstrip('/')}/{name}" if is_url(root) else (Path(root) / name).resolve()


def _from_fields(fields: "_Fields") -> Manifest:
    name, label_type = fields.get("name", str), fields.get("label_type", str)
    if label_type not in get_args(LabelType):
        raise fields.error("label_type", f"{label_type!r} is neither 'single' nor 'multi'")
    num_samples = fields.get("num_samples", int)
    if num_samples <= 0:
        raise fields.error("num_samples", f"{num_samples} is not above 0")
    if fields.body.get("declared"):
        return declare_manifest(name, label_type, fields.get("num_classes", int), num_samples, fields.folder)
    shards = _Fields(fields.path, fields.get("shards", dict))
    columns = {name: shards.get(name, list) for name in ("url", "num_samples", "bytes", "sha256")}
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) != 1:
        raise fields.error("shards", f"its columns have different lengths, {lengths}")
    for column, kind in (("url", str), ("sha256", str), ("num_samples", int), ("bytes", int)):
        if any(type(value) is not kind for value in columns[column]):
            raise fields.error(f"shards.{column}", f"holds something else than {kind.__name__}")
    if min(columns["num_samples"], default=0) < 0:
        raise fields.error("shards.num_samples", "holds a negative number")
    manifest = build_manifest(
        name=name,
        label_type=label_type,
        classes=fields.get("classes", list),
        folder=fields.folder,
        urls=columns["url"],
        num_samples=columns["num_samples"],
        num_bytes=columns["bytes"],
        sha256=columns["sha256"],
        origin=fields.get("origin", dict),
    )
    if manifest.num_samples != num_samples:
        raise fields.error("num_samples", f"{num_samples}, but its shards hold {manifest.num_samples}")
    if manifest.digest != fields.get("digest", str):
        raise fields.error("digest", "does not fit the content, so that was edited")
    return manifest


@dataclass(frozen=True)
class _Fields:
    """A JSON object of a manifest file, whose fields are checked as they are taken."""

    path: Path | str
    body: Mapping[str, Any]

    @property
    def folder(self) -> Path | str:
        return self.path.parent if isinstance(self.path, Path) else self.path.rpartition("/")[0]

    def get(self, name: str, kind: type) -> Any:
        if name not in self.body:
            raise self.error(name, "is missing")
        value = self.body[name]
        if type(value) is not kind:
            raise self.error(name, f"is of type {type(value).__name__}, but must be {kind.__name__}")
        return value

    def error(self, name: str, problem: str) -> UserError:
        return UserError(f"manifest {self.path}: {name}: {problem}; {REMAKE}")


def _digest(label_type: str, classes: Sequence[str], num_samples: Sequence[int], sha256: Sequence[str]) -> str:
    return content_digest(
        {"label_type": label_type, "classes": list(classes), "num_samples": list(num_samples), "sha256": list(sha256)}
    )
