"""Data sets that a library knows by name, as sources to build shards from.

    hf:NAME[:SPLIT]             Hugging Face `datasets`: a name on the hub, a folder of `save_to_disk`, or any local
                                folder that the library reads (parquet, imagefolder); SPLIT defaults to `train`
    torchvision:CLASS?KEY=VALUE&…   a class of `torchvision.datasets` with its arguments, `CIFAR10?root=data&train=true`

The encoded bytes that the library holds are kept. Where it holds pixels only, as most classes of torchvision do, they
are written as PNG, which loses nothing. Nothing is executed from a data set's repository.
"""

import io
import json
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import numpy as np
import yaml
from numpy.typing import NDArray
from PIL import Image

from scaling.data.format.class_names import ClassNames, refuse_repeated, refuse_unprintable
from scaling.data.format.manifest import LabelType
from scaling.data.tools.label_table import LabelTable, ResolvedLabels, as_text
from scaling.data.tools.sources.renumbering import renumber
from scaling.data.tools.sources.source import NO_OPTIONS, BadSampleError, LeftOut, SourceOptions
from scaling.errors import UserError, did_you_mean

HUGGING_FACE, TORCHVISION = "hf:", "torchvision:"

LIBRARY_MISSING = "the library is missing; pip install 'scaling-study[datasets]'"


class HuggingFaceSource:
    """A split of a data set of the `datasets` library, with one column of images and one of labels."""

    def __init__(self, name: str, options: SourceOptions = NO_OPTIONS) -> None:
        """`name` without the prefix; columns are found by their type when they are not given."""
        self._name = name
        self._rows = _load_split(name)
        features = self._rows.features
        self._image_column = options.image_column or _only(name, "--image-column", _columns(features, "Image"))
        labels = _columns(features, "ClassLabel") or [column for column in features if column.startswith("label")]
        self._label_column = options.label_column or _only(name, "--label-column", labels)
        for option, column in (("--image-column", self._image_column), ("--label-column", self._label_column)):
            if column not in features:
                raise UserError(f"{option} {column}: {name} has no such column; {did_you_mean(column, features)}")
        import datasets

        self._rows = self._rows.cast_column(self._image_column, datasets.Image(decode=False))
        feature = features[self._label_column]
        element = _element(feature)
        self._names: Sequence[str] | None = getattr(element, "names", None)
        _check_names(self._names or (), f"{HUGGING_FACE}{name}")
        resolved = self._collect(options, is_list=element is not feature).resolve()
        self._labels = resolved
        self.label_type: LabelType = resolved.label_type
        self.left_out: dict[str, LeftOut] = {}
        self.num_unlabelled = resolved.num_unlabelled
        self.num_repeated = 0
        self.classes: Sequence[str] = resolved.classes
        self.class_counts: NDArray[np.int64] | None = resolved.class_counts
        self._fingerprint = str(self._rows._fingerprint)

    def references(self) -> Iterator[tuple[str, int]]:
        """The fingerprint tells another version of the data apart when a build is continued."""
        for row in range(len(self._rows)):
            yield self._fingerprint, row

    def read(self, reference: Any) -> tuple[bytes, list[int]]:
        row = self._rows[reference[1]]
        image, labels = row[self._image_column], row[self._label_column]
        if image is None:
            raise BadSampleError(f"{HUGGING_FACE}{self._name}, row {reference[1]} has no image")
        encoded = image["bytes"] or Path(image["path"]).read_bytes()
        return encoded, self._labels.of(self._texts(labels, reference[1]) or [])

    def _collect(self, options: SourceOptions, is_list: bool) -> LabelTable:
        """The labels of all rows."""
        told = options.label_type or ("multi" if is_list else None)
        given = options.classes
        if given is None and self._names:
            # All of the feature's classes, in its order, also those that no row has.
            given = ClassNames(tuple(self._names))
        where = f"{HUGGING_FACE}{self._name}, row"
        table = LabelTable(told, given, lambda row: f"{where} {row}")
        row = 0
        for part in self._rows.select_columns(self._label_column).iter(batch_size=65_536):
            for labels in part[self._label_column]:
                table.add(row, self._texts(labels, row))
                row += 1
        return table

    def _texts(self, labels: Any, row: int) -> list[str] | None:
        """Labels of a row as texts, class numbers of a feature with names as their names; None for no label."""
        values = labels if isinstance(labels, list) else [labels]
        if self._names is not None:
            # The library writes -1 where the label is not known.
            known = [value for value in values if value is not None and value >= 0]
            texts: list[str | None] = [self._names[value] for value in known]
        else:
            texts = [as_text(value) for value in values]
        found = [text for text in texts if text is not None]
        if found and len(found) < len(values):
            raise UserError(f"{HUGGING_FACE}{self._name}, row {row}: its list of labels holds a missing value")
        return found or None


class TorchvisionSource:
    """A data set of torchvision whose targets are class numbers, or lists of them."""

    def __init__(self, text: str, options: SourceOptions = NO_OPTIONS) -> None:
        """`text` is `CLASS?KEY=VALUE&…` without the prefix."""
        self._data = _torchvision_data(text)
        self._text = text
        # Some classes draw or seek when they are asked for a sample.
        self._lock = threading.Lock()
        self._files = getattr(self._data, "samples", None) or getattr(self._data, "_samples", None)
        is_list = isinstance(self._target(0), list)
        names = getattr(self._data, "classes", None)
        self._names: list[str] | None = [str(name) for name in names] if names else None
        _check_names(self._names or (), f"{TORCHVISION}{text}")
        self.left_out: dict[str, LeftOut] = {}
        self.num_unlabelled = 0
        self.num_repeated = 0
        if self._names:
            self._renumbering = renumber(self._names, options.classes)
            self.classes: Sequence[str] = self._renumbering.classes
            self.label_type: LabelType = "multi" if is_list or options.label_type == "multi" else "single"
            self.class_counts: NDArray[np.int64] | None = self._count()
        else:
            self._labels = self._collect(options, is_list)
            self.classes, self.label_type = self._labels.classes, self._labels.label_type
            self.class_counts = self._labels.class_counts

    def references(self) -> Iterator[tuple[str, int]]:
        for row in range(len(self._data)):
            yield self._text, row

    def read(self, reference: Any) -> tuple[bytes, list[int]]:
        row = reference[1]
        if self._files:
            return Path(self._files[row][0]).read_bytes(), self._class_numbers(row)
        with self._lock:
            image, _ = self._data[row]
            labels = self._class_numbers(row)
        stream = io.BytesIO()
        (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(stream, "PNG")
        return stream.getvalue(), labels

    def _collect(self, options: SourceOptions, is_list: bool) -> ResolvedLabels:
        """Classes of targets that have no names."""
        told = options.label_type or ("multi" if is_list else None)
        table = LabelTable(told, options.classes, lambda row: f"{TORCHVISION}{self._text}, sample {row}")
        for row in range(len(self._data)):
            table.add(row, [str(label) for label in _listed(self._target(row))])
        return table.resolve()

    def _class_numbers(self, row: int) -> list[int]:
        labels = _listed(self._target(row))
        if not self._names:
            return self._labels.of([str(label) for label in labels])
        if any(not 0 <= label < len(self._names) for label in labels):
            raise UserError(
                f"{TORCHVISION}{self._text}, sample {row} has the targets {labels}, but there are {len(self._names)} "
                "classes; it cannot be packed"
            )
        return self._renumbering.apply(labels, self._names)

    def _count(self) -> NDArray[np.int64] | None:
        """Samples of each class; None where that would need every image."""
        if not self._files and getattr(self._data, "targets", None) is None:
            return None
        counts = np.zeros(len(self.classes), dtype=np.int64)
        for row in range(len(self._data)):
            for label in set(self._class_numbers(row)):
                counts[label] += 1
        return counts

    def _target(self, row: int) -> int | list[int]:
        """Where the library lists targets, no image is decoded for them."""
        listed = getattr(self._data, "targets", None)
        target = self._files[row][1] if self._files else listed[row] if listed is not None else self._data[row][1]
        values = target if isinstance(target, list | tuple) else [target]
        try:
            numbers = [int(value) for value in values]
        except (TypeError, ValueError) as error:
            raise UserError(
                f"{TORCHVISION}{self._text}: its targets are {type(target).__name__}, not class numbers; choose a "
                "classification data set"
            ) from error
        return numbers if isinstance(target, list | tuple) else numbers[0]


def _check_names(names: Sequence[str], where: str) -> None:
    """UserError for names of a library's classes that are not printable, or that two of them share."""
    for name in names:
        refuse_unprintable(name, where)
    refuse_repeated(names, where)


def _listed(labels: Any) -> list[Any]:
    """Labels of an image that has one or a list of them."""
    return labels if isinstance(labels, list) else [labels]


def _element(feature: Any) -> Any:
    """The feature inside a list of it, whose form depends on the library's version; any other feature as it is."""
    return feature[0] if isinstance(feature, list) else getattr(feature, "feature", feature)


def _reason(error: Exception) -> str:
    """The first line that a library's error says, or its name."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _load_split(text: str) -> Any:
    try:
        import datasets
    except ImportError as error:
        raise UserError(f"{HUGGING_FACE}{text}: {LIBRARY_MISSING}") from error
    name, split = text, "train"
    if ":" in text and not Path(text).exists():
        name, _, split = text.rpartition(":")
    try:
        if (Path(name) / "dataset_info.json").exists() or (Path(name) / "dataset_dict.json").exists():
            stored = datasets.load_from_disk(name)
            found = stored[split] if isinstance(stored, datasets.DatasetDict) else stored
        else:
            found = datasets.load_dataset(name, split=split)
    except Exception as error:  # The library raises its own and the network's types for what cannot be had.
        raise UserError(
            f"{HUGGING_FACE}{text} cannot be loaded ({_reason(error)}); name a data set and its split"
        ) from error
    return found


def hub_splits(name: str) -> list[str]:
    """Names of the splits of a data set that `HuggingFaceSource` reads."""
    stored = Path(name) / "dataset_dict.json"
    try:
        if stored.exists():
            return [str(split) for split in json.loads(stored.read_text(encoding="utf-8"))["splits"]]
        import datasets

        return [str(split) for split in datasets.get_dataset_split_names(name)]
    except ImportError as error:
        raise UserError(f"{HUGGING_FACE}{name}: {LIBRARY_MISSING}") from error
    except Exception as error:  # As in `_load_split`.
        raise UserError(
            f"{HUGGING_FACE}{name}: its splits cannot be told ({_reason(error)}); run this where there is a network, "
            "or name a folder of save_to_disk"
        ) from error


def _columns(features: Any, kind: str) -> list[str]:
    """Columns of a feature of this class, or of a list of it."""
    return [name for name, feature in features.items() if type(_element(feature)).__name__ == kind]


def _only(name: str, option: str, columns: Sequence[str]) -> str:
    if len(columns) != 1:
        found = f"several columns would do, {', '.join(columns)}" if columns else "no column is known by its type"
        raise UserError(f"{HUGGING_FACE}{name}: {found}; choose one with {option}")
    return columns[0]


def _torchvision_data(text: str) -> Any:
    from torchvision import datasets

    name, _, query = text.partition("?")
    if name not in datasets.__all__:
        raise UserError(
            f"{TORCHVISION}{name}: torchvision has no such data set; {did_you_mean(name, datasets.__all__)}"
        )
    pairs = parse_qsl(query, keep_blank_values=True)
    twice = next((key for key, _ in pairs if [other for other, _ in pairs].count(key) > 1), None)
    if twice is not None:
        raise UserError(f"{TORCHVISION}{name}: the argument {twice!r} is given several times; keep one of them")
    arguments = {key: yaml.safe_load(value) for key, value in pairs}
    try:
        return getattr(datasets, name)(**arguments)
    except (TypeError, ValueError, RuntimeError, OSError) as error:
        raise UserError(
            f"{TORCHVISION}{name} with {json.dumps(arguments)}: {_reason(error)}; write its arguments as "
            "CLASS?root=FOLDER&train=true"
        ) from error
