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
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, Self, get_args

import numpy as np
from numpy.typing import NDArray

from scaling.data.format.fields import REMAKE, ManifestFields
from scaling.data.format.homogeneity import Homogeneity
from scaling.data.format.labels import CLASS_NUMBERS, MAX_CLASSES, LabelRule
from scaling.data.storage.remote import MAX_TEXT_BYTES, RemoteFiles, is_url
from scaling.errors import UserError
from scaling.records.files import open_regular, write_text_atomic
from scaling.records.run_plan import DEFAULT_ACCESS, AccessPlan, content_digest

MANIFEST_SCHEMA = 1

LabelType = Literal["single", "multi"]

MAX_SAMPLES = 10**11
"""Of a data set."""

MAX_SHARD_SAMPLES = 10**8

MAX_SHARD_BYTES = 2**50

SHA256 = re.compile(r"[0-9a-f]{64}")

URL = re.compile(r"[^\x00-\x1f\x7f\ud800-\udfff]{1,4096}")
"""A path or url holds no control characters and nothing that is not UTF-8."""

PLAIN_URL = re.compile(r"(?:[\w=+@-][\w.=+@-]*/)*[\w=+@-][\w.=+@-]*", re.ASCII)
"""Most urls are relative paths of such names; nothing else has to be checked in them."""
MAX_NAME = 1000
"""Characters of the name of a data set or a class."""
MAX_PATTERNS = 100
"""Of members that are left out."""


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


def make_folder(folder: Path) -> None:
    """Make a folder and those above it; UserError when something else is in its place."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise UserError(f"{folder} cannot be made a folder: a file is in its place; name another") from error


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


def load_manifest(location: Path | str, access: AccessPlan = DEFAULT_ACCESS) -> Manifest:
    """Read and check a manifest at a path or url; UserError says file, field and rule."""
    place = location if isinstance(location, Path) or is_url(location) else Path(location)
    body = _read_json(place, access)
    if not isinstance(body, dict) or body.get("schema") != MANIFEST_SCHEMA:
        found = body.get("schema") if isinstance(body, dict) else type(body).__name__
        raise UserError(f"manifest {place}: schema is {found!r}, but must be {MANIFEST_SCHEMA}; {REMAKE}")
    return replace(_from_fields(ManifestFields(place, body)), access=access)


def _read_json(place: Path | str, access: AccessPlan) -> Any:
    """The parsed file; its text, as large as all that is parsed, is gone when this returns."""
    try:
        if isinstance(place, Path) and place.stat().st_size > MAX_TEXT_BYTES:
            raise UserError(f"{place} has {place.stat().st_size:,} bytes; that is no manifest")
        if not isinstance(place, Path):
            return json.loads(RemoteFiles(access.storage).read_text(place))
        with open_regular(place) as stream:
            return json.loads(stream.read())
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
    """Where a study's manifest is: an absolute path, or a url when it is one or `root` is."""
    if is_url(name):
        return name
    return f"{root.rstrip('/')}/{name}" if is_url(root) else (Path(root) / name).resolve()


def _from_fields(fields: ManifestFields) -> Manifest:
    name, label_type = fields.get("name", str), fields.get("label_type", str)
    if len(name) > MAX_NAME:
        raise fields.error("name", f"has {len(name):,} characters, above the limit of {MAX_NAME:,}")
    if label_type not in get_args(LabelType):
        raise fields.error("label_type", f"{label_type!r} is neither 'single' nor 'multi'")
    num_samples = fields.number("num_samples", 1, MAX_SAMPLES)
    if fields.body.get("declared"):
        num_classes = fields.number("num_classes", 1, MAX_CLASSES)
        return declare_manifest(name, label_type, num_classes, num_samples, fields.folder)
    shards = ManifestFields(fields.path, fields.get("shards", dict))
    columns = {name: shards.get(name, list) for name in ("url", "num_samples", "bytes", "sha256")}
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) != 1:
        raise fields.error("shards", f"its columns have different lengths, {lengths}")
    for column, kind in (("url", str), ("sha256", str), ("num_samples", int), ("bytes", int)):
        if any(type(value) is not kind for value in columns[column]):
            raise fields.error(f"shards.{column}", f"holds something else than {kind.__name__}")
    for column, largest in (("num_samples", MAX_SHARD_SAMPLES), ("bytes", MAX_SHARD_BYTES)):
        if any(not 0 <= value <= largest for value in columns[column]):
            raise fields.error(f"shards.{column}", f"holds a number that is negative or above {largest:,}")
    if sum(columns["num_samples"]) != num_samples:
        raise fields.error("num_samples", f"{num_samples}, but its shards hold {sum(columns['num_samples'])}")
    for column in ("url", "sha256"):
        _check_shard_names(fields, column, columns[column])
    classes = fields.get("classes", list)
    _check_classes(fields, classes)
    manifest = build_manifest(
        name=name,
        label_type=label_type,
        classes=classes,
        folder=fields.folder,
        urls=columns["url"],
        num_samples=columns["num_samples"],
        num_bytes=columns["bytes"],
        sha256=columns["sha256"],
        origin=fields.get("origin", dict),
        label_rule=_label_rule(fields, len(classes)),
        ignore=_ignore(fields),
        class_counts=_class_counts(fields, len(classes), num_samples),
        homogeneity=_homogeneity(fields),
    )
    if manifest.digest != fields.get("digest", str):
        raise fields.error("digest", "does not fit the content, so that was edited")
    return manifest


def _check_shard_names(fields: ManifestFields, column: str, values: list[str]) -> None:
    """Urls become paths and requests, checksums become file names of a cache."""
    is_remote = isinstance(fields.folder, str)
    for value in values:
        if column == "sha256":
            problem = None if SHA256.fullmatch(value) else "is not 64 of the characters 0-9a-f"
        else:
            problem = None if PLAIN_URL.fullmatch(value) else _url_problem(value, is_remote)
        if problem:
            raise fields.error(f"shards.{column}", f"{value[:80]!r} {problem}")
    if column == "url" and len(set(values)) != len(values):
        value, count = Counter(values).most_common(1)[0]
        raise fields.error(f"shards.{column}", f"{value[:80]!r} occurs {count} times; every shard counts once")


def _url_problem(url: str, is_folder_remote: bool) -> str | None:
    """Why a shard's url is not followed, as the end of a sentence."""
    if not URL.fullmatch(url):
        return "is not a path or url of printable characters"
    try:
        if is_url(url):
            return None
    except UserError as error:
        return f"is refused ({error})"
    if ".." in url and ".." in re.split(r"[/\\\\]", url):
        return "leaves the manifest's folder by '..'; write an absolute path"
    if is_folder_remote and url.startswith("/"):
        return "is a path of this machine in a manifest from elsewhere"
    return None


def _check_classes(fields: ManifestFields, classes: list[Any]) -> None:
    if not 1 <= len(classes) <= MAX_CLASSES:
        raise fields.error("classes", f"holds {len(classes):,} names, but must hold 1 to {MAX_CLASSES:,}")
    if any(type(name) is not str or len(name) > MAX_NAME for name in classes):
        raise fields.error("classes", f"holds something else than texts of at most {MAX_NAME:,} characters")
    if any(re.search(r"[\ud800-\udfff]", name) for name in classes):
        raise fields.error("classes", "holds a name that cannot be written as UTF-8")


def _label_rule(fields: ManifestFields, num_classes: int) -> LabelRule:
    if "labels" not in fields.body:
        return CLASS_NUMBERS
    try:
        return LabelRule.from_json(fields.get("labels", dict), num_classes)
    except ValueError as error:
        if isinstance(error, UserError):
            raise
        raise fields.error("labels", str(error)) from error


def _ignore(fields: ManifestFields) -> list[str]:
    if "ignore" not in fields.body:
        return []
    patterns = fields.get("ignore", list)
    if not 1 <= len(patterns) <= MAX_PATTERNS or any(
        type(pattern) is not str or not 1 <= len(pattern) <= MAX_NAME for pattern in patterns
    ):
        raise fields.error("ignore", f"is not a list of 1 to {MAX_PATTERNS} patterns")
    return list(patterns)


def _class_counts(fields: ManifestFields, num_classes: int, num_samples: int) -> list[int] | None:
    if "class_counts" not in fields.body:
        return None
    counts = fields.get("class_counts", list)
    if len(counts) != num_classes or any(type(count) is not int or not 0 <= count <= num_samples for count in counts):
        raise fields.error(
            "class_counts", f"is not one number from 0 to {num_samples:,} for each of {num_classes} classes"
        )
    return list(counts)


def _homogeneity(fields: ManifestFields) -> Homogeneity | None:
    if "shard_labels" not in fields.body:
        return None
    body = fields.get("shard_labels", dict)
    if set(body) != {"spread", "p_value"} or any(type(value) not in (int, float) for value in body.values()):
        raise fields.error("shard_labels", "holds something else than the numbers 'spread' and 'p_value'")
    return Homogeneity(spread=float(body["spread"]), p_value=float(body["p_value"]))


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
