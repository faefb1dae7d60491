"""Reading a manifest: every field is checked before anything is made of it, and each problem is one sentence."""

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from scaling.data.format.fields import REMAKE, ManifestFields
from scaling.data.format.homogeneity import Homogeneity
from scaling.data.format.labels import CLASS_NUMBERS, MAX_CLASSES, LabelRule
from scaling.data.format.manifest import MANIFEST_SCHEMA, LabelType, Manifest, build_manifest, declare_manifest
from scaling.data.storage.remote import MAX_TEXT_BYTES, RemoteFiles, is_url
from scaling.errors import UserError, shown, unprintable
from scaling.plain_json import read_json
from scaling.records.files import open_regular
from scaling.records.run_plan import DEFAULT_ACCESS, AccessPlan

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
            return read_json(RemoteFiles(access.storage).read_text(place))
        with open_regular(place) as stream:
            return read_json(stream.read())
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
    if unprintable(name):
        raise fields.error("name", f"{shown(name)} holds {unprintable(name)}, which is not printable")
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
    wrong = next((name for name in classes if unprintable(name)), None)
    if wrong is not None:
        raise fields.error("classes", f"{shown(wrong)} holds {unprintable(wrong)}, which is not printable")


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
