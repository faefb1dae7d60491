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

import yaml
from PIL import Image

from scaling.data.format.manifest import LabelType
from scaling.errors import UserError, did_you_mean

HUGGING_FACE, TORCHVISION = "hf:", "torchvision:"


class HuggingFaceSource:
    """A split of a data set of the `datasets` library, with one column of images and one of labels."""

    def __init__(self, name: str, image_column: str | None, label_column: str | None) -> None:
        """`name` without the prefix; columns are found by their type when they are not given."""
        self._rows = _load_split(name)
        features = self._rows.features
        self._image_column = image_column or _only(name, "--image-column", _columns(features, "Image"))
        labels = _columns(features, "ClassLabel") or [column for column in features if column.startswith("label")]
        self._label_column = label_column or _only(name, "--label-column", labels)
        for option, column in (("--image-column", self._image_column), ("--label-column", self._label_column)):
            if column not in features:
                raise UserError(f"{option} {column}: {name} has no such column; {did_you_mean(column, features)}")
        import datasets

        self._rows = self._rows.cast_column(self._image_column, datasets.Image(decode=False))
        feature = features[self._label_column]
        element = _element(feature)
        self.label_type: LabelType = "single" if element is feature else "multi"
        self.classes: Sequence[str] = getattr(element, "names", None) or self._classes_of_values()
        self._numbers = {name: number for number, name in enumerate(self.classes)}
        self._fingerprint = str(self._rows._fingerprint)

    def references(self) -> Iterator[tuple[str, int]]:
        """The fingerprint tells another version of the data apart when a build is continued."""
        for row in range(len(self._rows)):
            yield self._fingerprint, row

    def read(self, reference: Any) -> tuple[bytes, list[int]]:
        row = self._rows[reference[1]]
        image, labels = row[self._image_column], row[self._label_column]
        encoded = image["bytes"] or Path(image["path"]).read_bytes()
        return encoded, [label if isinstance(label, int) else self._numbers[str(label)] for label in _listed(labels)]

    def _classes_of_values(self) -> list[str]:
        """Numbers up to the largest, or the sorted names."""
        values = {
            value
            for part in self._rows.select_columns(self._label_column).iter(batch_size=65_536)
            for labels in part[self._label_column]
            for value in _listed(labels)
        }
        if all(isinstance(value, int) for value in values):
            return [str(number) for number in range(max(values, default=-1) + 1)]
        return sorted(map(str, values))


class TorchvisionSource:
    """A data set of torchvision whose targets are class numbers, or lists of them."""

    def __init__(self, text: str) -> None:
        """`text` is `CLASS?KEY=VALUE&…` without the prefix."""
        self._data = _torchvision_data(text)
        self._text = text
        # Some classes draw or seek when they are asked for a sample.
        self._lock = threading.Lock()
        self._files = getattr(self._data, "samples", None) or getattr(self._data, "_samples", None)
        is_list = isinstance(self._target(0), list)
        self.label_type: LabelType = "multi" if is_list else "single"
        names = getattr(self._data, "classes", None)
        self.classes: Sequence[str] = [str(name) for name in names] if names else self._classes_of_targets()

    def references(self) -> Iterator[tuple[str, int]]:
        for row in range(len(self._data)):
            yield self._text, row

    def read(self, reference: Any) -> tuple[bytes, list[int]]:
        row = reference[1]
        if self._files:
            return Path(self._files[row][0]).read_bytes(), _listed(self._target(row))
        with self._lock:
            image, _ = self._data[row]
            labels = _listed(self._target(row))
        stream = io.BytesIO()
        (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(stream, "PNG")
        return stream.getvalue(), labels

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

    def _classes_of_targets(self) -> list[str]:
        largest = max(max(_listed(self._target(row)), default=-1) for row in range(len(self._data)))
        return [str(number) for number in range(largest + 1)]


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
        raise UserError(
            f"{HUGGING_FACE}{text}: the library is missing; pip install 'scaling-study[datasets]'"
        ) from error
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
    arguments = {key: yaml.safe_load(value) for key, value in parse_qsl(query, keep_blank_values=True)}
    try:
        return getattr(datasets, name)(**arguments)
    except (TypeError, ValueError, RuntimeError, OSError) as error:
        raise UserError(
            f"{TORCHVISION}{name} with {json.dumps(arguments)}: {_reason(error)}; write its arguments as "
            "CLASS?root=FOLDER&train=true"
        ) from error
