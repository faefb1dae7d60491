"""What shards can be built from: a tree of class folders, a table of paths and labels, other shards, or a library's
data set.

A source lists *references*, small JSON values that name one sample each, in an order that is always the same; and it
reads the sample of a reference. The builder shuffles references, never images. Whatever a folder or table holds is
either listed or accounted for in `left_out`.
"""

import errno
import os
import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from scaling.data.format.class_names import ClassNames, clean_name, refuse_unprintable
from scaling.data.format.ignore import Ignore
from scaling.data.format.index import LabelForm
from scaling.data.format.load_manifest import load_manifest
from scaling.data.format.manifest import LabelType, Manifest
from scaling.data.format.open_shards import OpenShards
from scaling.data.format.shard import IMAGE_EXTENSIONS, UNREAD_IMAGE_EXTENSIONS
from scaling.data.select.subset import Subset, select_subset
from scaling.data.storage.integrity import CorruptSampleError
from scaling.data.tools.label_table import LabelTable
from scaling.data.tools.tables import ReadRows, RepeatedRows, read_csv_rows, read_parquet_rows
from scaling.errors import UserError, did_you_mean

HUGGING_FACE, TORCHVISION = "hf:", "torchvision:"

IMAGE_SUFFIXES = tuple(f".{extension}" for extension in IMAGE_EXTENSIONS)

UNREAD_SUFFIXES = tuple(f".{extension}" for extension in UNREAD_IMAGE_EXTENSIONS)

SYSTEM_NAMES = frozenset({"thumbs.db", "desktop.ini", "__macosx", "@eadir", "$recycle.bin"})
"""Files and folders that operating systems leave beside images, in lower case."""

SPLIT_NAME = re.compile(r"(train|training|val|valid|validation|test|testing|dev|eval)([-_ .].*)?", re.IGNORECASE)
"""Folders of these names, when there are no others, hold parts of a data set and not classes."""

WHOLE_NUMBER = re.compile(r"[0-9]{1,18}")

BAD_FILE = (errno.ENOENT, errno.EACCES, errno.EPERM, errno.EISDIR, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG)
"""Errors that are about one file; others, such as too many open files, are about the machine."""

MAX_EXAMPLES = 3


class BadSampleError(UserError):
    """One sample of a source cannot be packed, while the others can."""


@dataclass(frozen=True)
class SourceOptions:
    """Options of a source from the command line."""

    image_column: str | None = None
    label_column: str | None = None
    """Of an `hf:` source."""
    label_type: LabelForm | None = None
    classes: ClassNames | None = None
    ignore: Ignore = field(default_factory=Ignore)
    """Paths to leave out."""


NO_OPTIONS = SourceOptions()


@dataclass
class LeftOut:
    """Files of one kind that are not packed."""

    count: int = 0
    examples: list[str] = field(default_factory=list)

    def add(self, name: str) -> None:
        self.count += 1
        if len(self.examples) < MAX_EXAMPLES:
            self.examples.append(name)


class Source(Protocol):
    """Samples to build shards from. Threads may read from one."""

    classes: Sequence[str]
    label_type: LabelType
    class_counts: NDArray[np.int64] | None
    """Samples of each class; None when they are counted only while packing."""
    num_unlabelled: int
    num_repeated: int
    """Rows that name the image of an earlier one."""
    left_out: dict[str, LeftOut]
    """What is not packed, by the reason."""

    def references(self) -> Iterator[Any]:
        """A JSON value per sample, always in the same order."""
        ...

    def read(self, reference: Any) -> tuple[bytes, list[int]]:
        """Encoded image and class numbers of a sample; BadSampleError when they cannot be had."""
        ...


def find_source(name: str | Path, options: SourceOptions = NO_OPTIONS) -> Source:
    """A folder of class folders, a `.csv` or `.parquet` table, a manifest (`.json`), or a name with the prefix of a
    library (see `named_sources`)."""
    from scaling.data.tools.named_sources import HuggingFaceSource, TorchvisionSource

    is_named = str(name).startswith((HUGGING_FACE, TORCHVISION))
    path = Path(name)
    if options.ignore and (is_named or path.suffix == ".json"):
        raise UserError(f"--ignore is for folders and tables, whose samples have paths; {name} has none")
    if str(name).startswith(HUGGING_FACE):
        return HuggingFaceSource(str(name).removeprefix(HUGGING_FACE), options)
    if str(name).startswith(TORCHVISION):
        return TorchvisionSource(str(name).removeprefix(TORCHVISION), options)
    if path.is_dir():
        return FolderSource(path, options)
    if not path.exists():
        raise UserError(f"{path}: no such source; name a folder of class folders, a .csv or .parquet, or a manifest")
    suffix = path.suffix.lower()
    if suffix in (".csv", ".tsv"):
        return TableSource(path, read_csv_rows, options)
    if suffix == ".parquet":
        return TableSource(path, read_parquet_rows, options)
    if suffix == ".json":
        manifest = load_manifest(path)
        return ShardSource(manifest, select_subset(manifest, 1.0, seed=0), options)
    raise UserError(f"{path}: a source is a folder of class folders, a .csv or .parquet table, or a manifest (.json)")


class FolderSource:
    """`ROOT/<class>/**/<image>`; classes are numbered in the order of their names, as in ImageFolder, and
    names that are all whole numbers in that of the numbers.

    Hidden files and folders, those that operating systems leave, class folders without an image, and what
    `options.ignore` matches are left out. Images of a format that is not read are an error unless they are ignored.
    """

    def __init__(self, root: Path, options: SourceOptions = NO_OPTIONS) -> None:
        self._root, self._ignore = root, options.ignore
        self.label_type: LabelType = "multi" if options.label_type == "multi" else "single"
        if options.label_type in ("one-hot", "multi-hot"):
            raise UserError(f"--label-type {options.label_type}: a folder of class folders holds no vectors")
        self.left_out: dict[str, LeftOut] = {}
        self.num_unlabelled = 0
        self.num_repeated = 0
        folders = self._class_folders()
        counts = {name: sum(1 for _ in self._images(name, self.left_out)) for name in folders}
        self._refuse_unread()
        self._folders = [name for name in folders if counts[name]]
        for name in folders:
            if not counts[name]:
                self._leave_out(self.left_out, "class folders without an image that is packed", name)
        if not self._folders and IGNORED in self.left_out:
            raise UserError(
                f"{root}: every image is left out by --ignore {' '.join(self._ignore.patterns)}; name fewer"
            )
        if not self._folders:
            raise UserError(f"{root} has no class folders; expected {root}/<class name>/<image>")
        self.classes, self._numbers = self._number_classes(options.classes)
        self.class_counts: NDArray[np.int64] | None = np.zeros(len(self.classes), dtype=np.int64)
        for name in self._folders:
            self.class_counts[self._numbers[name]] += counts[name]

    def references(self) -> Iterator[tuple[str, int]]:
        for name in self._folders:
            for path in self._images(name, {}):
                yield path, self._numbers[name]

    def read(self, reference: Any) -> tuple[bytes, list[int]]:
        path, label = reference
        return _read_file(self._root / path), [label]

    def _class_folders(self) -> list[str]:
        folders = []
        for path in sorted(self._root.iterdir(), key=lambda path: path.name):
            if is_system_name(path.name):
                self._leave_out(self.left_out, "hidden and system files and folders", path.name)
            elif path.is_dir():
                folders.append(path.name)
            elif self._ignore.matches(path.name):
                self._leave_out(self.left_out, IGNORED, path.name)
            else:
                kind = (
                    "images outside of class folders" if path.name.lower().endswith(IMAGE_SUFFIXES) else "other files"
                )
                self._leave_out(self.left_out, kind, path.name)
        return folders

    def _images(self, class_folder: str, left_out: dict[str, LeftOut]) -> Iterator[str]:
        """Paths of a class relative to the root, in order; others are counted in `left_out`."""
        for folder, folders, files in os.walk(self._root / class_folder, onerror=_cannot_list):
            inner = os.path.relpath(folder, self._root)
            for name in list(folders):
                path = f"{inner}/{name}"
                if is_system_name(name):
                    self._leave_out(left_out, "hidden and system files and folders", path)
                    folders.remove(name)
                elif os.path.islink(f"{folder}/{name}"):  # noqa: PTH114
                    self._leave_out(left_out, "folders behind symbolic links", path)
            folders.sort()
            for name in sorted(files):
                path = os.path.normpath(f"{inner}/{name}")
                if self._ignore.matches(path):
                    self._leave_out(left_out, IGNORED, path)
                elif is_system_name(name):
                    self._leave_out(left_out, "hidden and system files and folders", path)
                elif name.lower().endswith(IMAGE_SUFFIXES):
                    yield path
                elif name.lower().endswith(UNREAD_SUFFIXES):
                    self._leave_out(left_out, f"{UNREAD} ({os.path.splitext(name)[1].lower()})", path)  # noqa: PTH122
                else:
                    self._leave_out(left_out, "other files", path)

    def _refuse_unread(self) -> None:
        unread = {kind: files for kind, files in self.left_out.items() if kind.startswith(UNREAD)}
        if unread:
            told = ", ".join(
                f"{files.count:,} {kind[len(UNREAD) :].strip(' ()')} (such as {files.examples[0]!r})"
                for kind, files in unread.items()
            )
            patterns = " ".join(f"--ignore '*{kind[len(UNREAD) :].strip(' ()')}'" for kind in unread)
            raise UserError(
                f"{self._root} holds images of formats that are not read: {told}; convert them to PNG or JPEG, or "
                f"leave them out with {patterns}"
            )

    def _number_classes(self, given: ClassNames | None) -> tuple[Sequence[str], dict[str, int]]:
        # File systems disagree about the form of accents; a class has one name wherever it comes from.
        names = {folder: clean_name(folder) for folder in self._folders}
        folder_of: dict[str, str] = {}
        for folder, name in names.items():
            refuse_unprintable(name, str(self._root))
            other = folder_of.setdefault(name, folder)
            if not name or other != folder:
                raise UserError(
                    f"{self._root}: two class folders, {other!r} and {folder!r}, differ in blanks or in the form of "
                    "their accents only; merge them"
                    if name
                    else f"{self._root}: a class folder is named {folder!r}, blanks alone; rename it"
                )
        if given is None and all(SPLIT_NAME.fullmatch(name) for name in names.values()):
            raise UserError(
                f"{self._root}: its folders {', '.join(map(repr, names.values()))} are named like parts of a data set, "
                f"not like classes; name one of them, such as {self._root / self._folders[0]}, or name the classes "
                "with --classes FILE"
            )
        if given is None:
            ordered = sorted(names, key=lambda folder: names[folder])
            if all(WHOLE_NUMBER.fullmatch(name) for name in names.values()):
                ordered = self._by_value(names)
            return [names[folder] for folder in ordered], {folder: number for number, folder in enumerate(ordered)}
        return given.names, {folder: class_number(name, given, f"folder {folder!r}") for folder, name in names.items()}

    def _by_value(self, names: dict[str, str]) -> list[str]:
        """Folders that are named by numbers, in their order; UserError when two stand for one number."""
        by_value: dict[int, str] = {}
        for folder, name in names.items():
            other = by_value.setdefault(int(name), folder)
            if other != folder:
                raise UserError(
                    f"{self._root}: the class folders {other!r} and {folder!r} are one number; merge them, or name the "
                    "classes with --classes FILE"
                )
        return [by_value[value] for value in sorted(by_value)]

    def _leave_out(self, left_out: dict[str, LeftOut], reason: str, name: str) -> None:
        left_out.setdefault(reason, LeftOut()).add(name)


IGNORED = "ignored as told"

UNREAD = "images of a format that is not read"


def is_system_name(name: str) -> bool:
    """Whether a file or folder is hidden or one that operating systems leave beside images."""
    return name.startswith(".") or name.lower() in SYSTEM_NAMES


def class_number(name: str, given: ClassNames, where: str) -> int:
    """Number of the class of this name among those that --classes names, or of the value it gives it."""
    if name in given.names:
        return given.names.index(name)
    if name.isdecimal() and given.values and int(name) in given.values:
        return given.values.index(int(name))
    raise UserError(f"{where}: --classes does not name the class {name!r}; {did_you_mean(name, given.names)}")


class TableSource:
    """Rows of an image's path, relative to the table's folder, and its labels (see `label_table`)."""

    def __init__(self, path: Path, read_rows: ReadRows, options: SourceOptions = NO_OPTIONS) -> None:
        self._path, self._read_rows, self._ignore = path, read_rows, options.ignore
        self.left_out: dict[str, LeftOut] = {}
        table = LabelTable(options.label_type, options.classes, lambda row: f"{path}, row {row}")
        repeated = RepeatedRows(path)
        for row in read_rows(path):
            if self._ignore.matches(row.path):
                self.left_out.setdefault("rows ignored as told", LeftOut()).add(row.path)
                continue
            table.add(row.number, row.labels)
            repeated.add(row)
        self.num_repeated = repeated.count
        self.resolved = table.resolve()
        self.classes: Sequence[str] = self.resolved.classes
        self.label_type: LabelType = self.resolved.label_type
        self.class_counts: NDArray[np.int64] | None = self.resolved.class_counts
        self.num_unlabelled = self.resolved.num_unlabelled

    def references(self) -> Iterator[tuple[str, list[int]]]:
        for row in self._read_rows(self._path):
            if not self._ignore.matches(row.path):
                yield row.path, self.resolved.of(row.labels or [])

    def read(self, reference: Any) -> tuple[bytes, list[int]]:
        path, labels = reference
        return _read_file(self._path.parent / path), labels


class Renumbering(NamedTuple):
    """From the class numbers of a data set to those of the classes that were asked for."""

    classes: Sequence[str]
    numbers: Sequence[int] | None
    """New number of each old one, -1 for a class that is not among them; None to keep the numbers."""

    def apply(self, labels: list[int], names: Sequence[str]) -> list[int]:
        """The new numbers of a sample; UserError names a class that is not among those asked for."""
        if self.numbers is None:
            return labels
        new = [self.numbers[label] for label in labels]
        if -1 in new:
            name = names[labels[new.index(-1)]]
            raise UserError(f"--classes does not name the class {name!r}; {did_you_mean(name, self.classes)}")
        return new


def renumber(names: Sequence[str], given: ClassNames | None) -> Renumbering:
    """Classes of `names` by the list that --classes gives, matched by name."""
    if given is None or given.names == tuple(names):
        return Renumbering(names, None)
    order = {name: number for number, name in enumerate(given.names)}
    return Renumbering(given.names, [order.get(name, -1) for name in names])


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


def _cannot_list(error: OSError) -> None:
    raise UserError(f"the folder {error.filename} cannot be listed ({error.strerror}); its images would be lost")


def _read_file(path: Path) -> bytes:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise BadSampleError(f"{path} is no file")
        return path.read_bytes()
    except OSError as error:
        kind = BadSampleError if error.errno in BAD_FILE else UserError
        raise kind(f"{path} cannot be read ({error.strerror}); repair the source and start again") from error
    except ValueError as error:
        if isinstance(error, UserError):
            raise
        raise BadSampleError(f"{str(path)!r} is no path ({error})") from error
