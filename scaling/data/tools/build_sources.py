"""What shards can be built from: a tree of class folders, a table of paths and labels, other shards, or a library's
data set.

A source lists *references*, small JSON values that name one sample each, in an order that is always the same; and it
reads the sample of a reference. The builder shuffles references, never images.
"""

import csv
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from scaling.data.format.manifest import LabelType, Manifest, load_manifest
from scaling.data.format.shard import IMAGE_EXTENSIONS
from scaling.data.select.subset import Subset, select_subset
from scaling.data.storage.open_shards import OpenShards
from scaling.data.tools.named_sources import HUGGING_FACE, TORCHVISION, HuggingFaceSource, TorchvisionSource
from scaling.errors import UserError

IMAGE_SUFFIXES = tuple(f".{extension}" for extension in IMAGE_EXTENSIONS)

PATH_COLUMN, LABELS_COLUMN = "path", "labels"

LABEL_SEPARATOR = "|"

ROWS_AT_ONCE = 65_536


class Source(Protocol):
    """Samples to build shards from. Threads may read from one."""

    classes: Sequence[str]
    label_type: LabelType

    def references(self) -> Iterator[Any]:
        """A JSON value per sample, always in the same order."""
        ...

    def read(self, reference: Any) -> tuple[bytes, list[int]]:
        """Encoded image and class numbers of a sample."""
        ...


def open_source(name: str | Path, image_column: str | None = None, label_column: str | None = None) -> Source:
    """A folder of class folders, a `.csv` or `.parquet` table, a manifest (`.json`), or a name with the prefix of a
    library (see `named_sources`); the columns are for `hf:` names."""
    if str(name).startswith(HUGGING_FACE):
        return HuggingFaceSource(str(name).removeprefix(HUGGING_FACE), image_column, label_column)
    if str(name).startswith(TORCHVISION):
        return TorchvisionSource(str(name).removeprefix(TORCHVISION))
    path = Path(name)
    if path.is_dir():
        return FolderSource(path)
    if not path.exists():
        raise UserError(f"{path}: no such source; name a folder of class folders, a .csv or .parquet, or a manifest")
    if path.suffix == ".csv":
        return TableSource(path, read_csv_rows)
    if path.suffix == ".parquet":
        return TableSource(path, read_parquet_rows)
    if path.suffix == ".json":
        manifest = load_manifest(path)
        return ShardSource(manifest, select_subset(manifest, 1.0, seed=0))
    raise UserError(f"{path}: a source is a folder of class folders, a .csv or .parquet table, or a manifest (.json)")


class FolderSource:
    """`ROOT/<class>/**/<image>`; classes are numbered in the order of their names, as in ImageFolder."""

    label_type: LabelType = "single"

    def __init__(self, root: Path) -> None:
        self._root = root
        self.classes: Sequence[str] = sorted(path.name for path in root.iterdir() if path.is_dir())
        if not self.classes:
            raise UserError(f"{root} has no class folders; expected {root}/<class name>/<image>")

    def references(self) -> Iterator[tuple[str, int]]:
        for number, name in enumerate(self.classes):
            for folder, folders, files in os.walk(self._root / name):
                folders.sort()
                for file in sorted(files):
                    if file.lower().endswith(IMAGE_SUFFIXES):
                        yield os.path.relpath(Path(folder) / file, self._root), number

    def read(self, reference: Any) -> tuple[bytes, list[int]]:
        path, label = reference
        return _read_file(self._root / path), [label]


class TableSource:
    """Rows of an image's path, relative to the table's folder, and its labels, names or numbers.

    Labels that are all numbers are class numbers; otherwise classes are numbered in the order of their names.
    """

    def __init__(self, path: Path, read_rows: "ReadRows") -> None:
        self._path, self._read_rows = path, read_rows
        names: set[str] = set()
        counts: set[int] = set()
        for _, labels in read_rows(path):
            names.update(labels)
            counts.add(len(labels))
        self.label_type: LabelType = "single" if counts == {1} else "multi"
        self.classes: Sequence[str]
        if all(name.isdecimal() for name in names):
            self.classes = [str(number) for number in range(max(map(int, names), default=-1) + 1)]
        else:
            self.classes = sorted(names)
        self._numbers = {name: number for number, name in enumerate(self.classes)}

    def references(self) -> Iterator[tuple[str, list[int]]]:
        for path, labels in self._read_rows(self._path):
            yield path, [self._numbers[label] for label in labels]

    def read(self, reference: Any) -> tuple[bytes, list[int]]:
        path, labels = reference
        return _read_file(self._path.parent / path), labels


class ShardSource:
    """A subset of a data set that is in shards already."""

    def __init__(self, manifest: Manifest, subset: Subset) -> None:
        self.classes: Sequence[str] = manifest.classes
        self.label_type: LabelType = manifest.label_type
        self._subset = subset
        self._shards = OpenShards(manifest)

    def references(self) -> Iterator[tuple[int, int]]:
        for place, shard_id in enumerate(self._subset.shard_ids.tolist()):
            for index in self._subset.indices_of(place):
                yield shard_id, index

    def read(self, reference: Any) -> tuple[bytes, list[int]]:
        shard_id, index = reference
        return self._shards.get(shard_id).read(index)


class ReadRows(Protocol):
    def __call__(self, path: Path) -> Iterator[tuple[str, list[str]]]: ...


def read_csv_rows(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Path and labels of each row; several labels stand in one cell, separated by `|`."""
    with path.open(newline="", encoding="utf-8") as stream:
        rows = csv.DictReader(stream)
        _check_columns(path, rows.fieldnames or [])
        for row in rows:
            cell = row[LABELS_COLUMN] or ""
            yield row[PATH_COLUMN], [label.strip() for label in cell.split(LABEL_SEPARATOR) if label.strip()]


def read_parquet_rows(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Path and labels of each row; the labels' column holds a list, a name or a number."""
    import pyarrow.parquet

    table = pyarrow.parquet.ParquetFile(path)
    _check_columns(path, table.schema_arrow.names)
    for part in table.iter_batches(ROWS_AT_ONCE, columns=[PATH_COLUMN, LABELS_COLUMN]):
        for row in part.to_pylist():
            labels = row[LABELS_COLUMN]
            yield row[PATH_COLUMN], [str(label) for label in (labels if isinstance(labels, list) else [labels])]


def _check_columns(path: Path, columns: Sequence[str]) -> None:
    missing = [name for name in (PATH_COLUMN, LABELS_COLUMN) if name not in columns]
    if missing:
        raise UserError(f"{path}: the column {missing[0]!r} is missing among {list(columns)}; add or rename it")


def _read_file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); repair the source and start again") from error
