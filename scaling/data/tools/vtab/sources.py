"""The parts of a VTAB-1k task as sources to build shards from: `train`, and `val` and `test` where they are apart.

Images keep their encoded bytes wherever a library has files of them. Nothing is downloaded but by torchvision and by
Hugging Face `datasets`, into their folders.
"""

import io
import itertools
import json
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from scaling.data.format.manifest import LabelType
from scaling.data.tools.sources.folders import FolderSource
from scaling.data.tools.sources.named import HUGGING_FACE, HuggingFaceSource, TorchvisionSource, hub_splits
from scaling.data.tools.sources.source import NO_OPTIONS, BadSampleError, LeftOut, Source, SourceOptions
from scaling.data.tools.vtab.tasks import TEST, TRAIN, VAL, VtabTask
from scaling.errors import UserError

CLEVR_DISTANCES = (0.0, 8.0, 8.5, 9.0, 9.5, 10.0, 100.0)
"""Bounds of the six classes of the closest object's depth (task_adaptation, data/clevr.py)."""
CLEVR_FEWEST = 3
"""Objects in a CLEVR image: 3 to 10."""
DSPRITES_COLUMNS = {"dsprites_orientation": (3, 40), "dsprites_location": (4, 32)}
"""Column of `latents_classes` and its values: orientation and x-position, both in 16 bins."""
VALIDATION_NAMES = ("validation", "val", "valid")


class Listed:
    """Images with one class each, known by a path or a row."""

    def __init__(self, rows: Sequence[Any], labels: Sequence[int], classes: Sequence[str], read: Any) -> None:
        """`read(row)` gives the encoded image of one of `rows`."""
        self._rows, self._labels, self._read = rows, labels, read
        self.classes = classes
        self.label_type: LabelType = "single"
        self.class_counts: NDArray[np.int64] | None = np.bincount(labels, minlength=len(classes))
        self.num_unlabelled = self.num_repeated = 0
        self.left_out: dict[str, LeftOut] = {}

    def references(self) -> Iterator[tuple[Any, int]]:
        yield from zip(self._rows, self._labels, strict=True)

    def read(self, reference: Any) -> tuple[bytes, list[int]]:
        return self._read(reference[0]), [reference[1]]


def task_parts(task: VtabTask, where: str, options: SourceOptions = NO_OPTIONS) -> dict[str, Source]:
    """The parts of a task. `where` is what `--from` says: lists, `hf:NAME`, a file, or the folder of torchvision's
    downloads; `options` are those of an `hf:` source. UserError with a way out where the task cannot be had."""
    if where and (Path(where) / f"{TRAIN}.txt").is_file():
        return _lists(task, Path(where))
    if where.startswith(HUGGING_FACE) or (not where and task.hub):
        return _hub(where.removeprefix(HUGGING_FACE) or task.hub, options)
    if task.reader == "dsprites" and where.endswith(".npz"):
        return {"train": _dsprites(task, Path(where))}
    if task.torchvision:
        if not where:
            raise UserError(
                f"vtab:{task.name}: torchvision downloads it into a folder of yours; name one with --from FOLDER, or "
                f"one with {TRAIN}.txt, {VAL}.txt and {TEST}.txt"
            )
        return _torchvision(task, where)
    reason = task.by_hand or f"it is on Hugging Face as {task.hub}"
    raise UserError(
        f"vtab:{task.name} is not downloaded: {reason}; or name a folder with {TRAIN}.txt, {VAL}.txt and {TEST}.txt "
        "(lines 'PATH CLASS') or a data set hf:NAME with --from"
    )


def _lists(task: VtabTask, folder: Path) -> dict[str, Source]:
    """Lists of `PATH CLASS`, paths relative to the folder: the images of each split as somebody drew them."""
    classes = [str(number) for number in range(task.num_classes)]
    parts: dict[str, Source] = {}
    for part, split in (("train", TRAIN), ("val", VAL), ("test", TEST)):
        path = folder / f"{split}.txt"
        rows, labels = [], []
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, ValueError) as error:
            raise UserError(f"{path} cannot be read ({error}); write a line 'PATH CLASS' for each image") from error
        for number, line in enumerate(lines, start=1):
            name, _, label = line.strip().rpartition(" ")
            if not name or not label.isdecimal() or int(label) >= task.num_classes:
                raise UserError(
                    f"{path}, line {number}: {line!r} is no 'PATH CLASS' with a class from 0 to {task.num_classes - 1}"
                )
            rows.append(name)
            labels.append(int(label))
        if len(rows) != task.counts[split]:
            raise UserError(
                f"{path} lists {len(rows):,} images, and the split {split} of vtab:{task.name} has "
                f"{task.counts[split]:,}; give the list of this task"
            )
        parts[part] = Listed(rows, labels, classes, partial(_file, folder))
    return parts


def _hub(name: str, options: SourceOptions) -> dict[str, Source]:
    splits = hub_splits(name)
    found = {"train": "train", "val": next((one for one in VALIDATION_NAMES if one in splits), ""), "test": "test"}
    return {part: HuggingFaceSource(f"{name}:{split}", options) for part, split in found.items() if split in splits}


def _torchvision(task: VtabTask, root: str) -> dict[str, Source]:
    assert task.torchvision is not None
    parts: dict[str, Source] = {}
    for part, arguments in task.torchvision["parts"].items():
        data = _download(task, root, arguments)
        if task.reader == "folders":
            parts[part] = FolderSource(Path(root) / task.folder)
        elif task.reader == "clevr":
            parts[part] = _clevr(task, data, arguments["split"])
        elif paths := getattr(data, "_image_files", None) or getattr(data, "_images", None):
            # Otherwise their files would be decoded and written again.
            classes = list(getattr(data, "classes", ())) or [str(number) for number in range(task.num_classes)]
            parts[part] = Listed([str(path) for path in paths], data._labels, classes, partial(_file, Path()))
        else:
            told = {"root": root, **arguments}
            query = "&".join(f"{key}={quote(json.dumps(value))}" for key, value in told.items())
            parts[part] = TorchvisionSource(f"{task.torchvision['class']}?{query}")
    return parts


def _download(task: VtabTask, root: str, arguments: dict[str, Any]) -> Any:
    from torchvision import datasets

    assert task.torchvision is not None
    kind = getattr(datasets, task.torchvision["class"])
    try:
        return kind(root=root, **arguments)
    except (RuntimeError, OSError):
        pass  # Not there yet; whatever else is wrong is met again below.
    try:
        return kind(root=root, download=True, **arguments)
    except (RuntimeError, OSError, ValueError, ImportError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"vtab:{task.name}: torchvision.datasets.{kind.__name__} cannot be had in {root} ({reason}); run this "
            "where there is a network, or copy what it downloads into that folder, or name lists or hf:NAME with --from"
        ) from error


def _clevr(task: VtabTask, data: Any, split: str) -> Source:
    """Objects in the image (3 to 10), or the depth of the closest one in six classes."""
    path = Path(data._data_folder) / "scenes" / f"CLEVR_{split}_scenes.json"
    scenes = json.loads(path.read_text(encoding="utf-8"))["scenes"]
    objects = {scene["image_filename"]: scene["objects"] for scene in scenes}
    found = [objects[file.name] for file in data._image_files]
    if task.name == "clevr_count":
        labels = [len(one) - CLEVR_FEWEST for one in found]
        classes = [f"{CLEVR_FEWEST + number} objects" for number in range(task.num_classes)]
    else:
        closest = [min(thing["pixel_coords"][2] for thing in one) for one in found]
        # The last bound that lies below; a value on a bound belongs to the class under it.
        labels = (np.searchsorted(CLEVR_DISTANCES, closest, side="left") - 1).tolist()
        classes = [f"{low} to {high}" for low, high in itertools.pairwise(CLEVR_DISTANCES)]
    return Listed([str(file) for file in data._image_files], labels, classes, partial(_file, Path()))


def _dsprites(task: VtabTask, path: Path) -> Source:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            images, latents = arrays["imgs"], arrays["latents_classes"]
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{path} is not the file of dSprites ({error}); {task.by_hand}") from error
    column, num_values = DSPRITES_COLUMNS[task.name]
    # As task_adaptation's data/dsprites.py bins them: floor(value / (values / bins)).
    labels = (latents[:, column] * task.num_classes // num_values).astype(int).tolist()
    classes = [f"bin {number}" for number in range(task.num_classes)]

    def read(row: int) -> bytes:
        stream = io.BytesIO()
        Image.fromarray(images[row] * np.uint8(255)).save(stream, "PNG")
        return stream.getvalue()

    return Listed(range(len(images)), labels, classes, read)


def _file(folder: Path, name: str) -> bytes:
    try:
        return (folder / name).read_bytes()
    except (OSError, ValueError) as error:
        raise BadSampleError(f"{folder / name} cannot be read ({error})") from error
