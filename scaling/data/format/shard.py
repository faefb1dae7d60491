"""The samples of one shard in tar order, and their bytes fetched by offset.

Members of one key (the name up to the first dot of its last component, as in WebDataset) are one sample: one
image (jpg, jpeg, png, webp) and one label (cls, or else json). Other files are passed over unread, so a pickle in
a shard is never opened. A sample without image or label, with two of one kind, or whose members are not adjacent is
an error, because skipping it would change the count and mixing it would change the label.

No file stays open between two reads, so any number of shards can be in use; a shard that changes its size while it
is in use gives an error, not a crash as with a memory map.
"""

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scaling.data.format.corrupt import CorruptSampleError, CorruptShardError
from scaling.data.format.tar_headers import Member, read_members
from scaling.data.storage.shard_files import LocalTar, ShardFiles
from scaling.records.run_plan import DEFAULT_ACCESS

IMAGE_EXTENSIONS = ("jpg", "jpeg", "png", "webp")
LABEL_EXTENSIONS = ("cls", "json")
DECLARED_EXTENSIONS = frozenset(IMAGE_EXTENSIONS + LABEL_EXTENSIONS)

MAX_IMAGE_BYTES = 256 * 1024 * 1024
MAX_LABEL_BYTES = 1024 * 1024
"""Members above these are no photographs and no labels."""

MAX_LABELS = 10_000
"""Labels of one image; more is not a label list."""


@dataclass(frozen=True, slots=True)
class Samples:
    """Columns over a shard's samples."""

    keys: list[str]
    places: NDArray[np.int64]
    """(n, 4): image offset, image bytes, label offset, label bytes."""
    label_is_json: NDArray[np.bool_]


class Shard:
    """An indexed shard; threads may share one."""

    def __init__(self, location: str, tar: LocalTar | None = None) -> None:
        """`tar` is the shard on this machine; without it, it is opened with the defaults."""
        self.location = location
        self._tar = tar or ShardFiles(DEFAULT_ACCESS).open(location)
        self._tar_bytes = self._tar.path.stat().st_size
        if self._tar_bytes == 0:
            raise CorruptShardError(f"shard {location} is empty; make or copy it again")
        with self._opened() as descriptor:
            listing = read_members(lambda start, size: os.pread(descriptor, size, start), self._tar_bytes, location)
        self.has_end_marker = listing.has_end_marker
        self._samples = group_samples(listing.members, location)

    def __len__(self) -> int:
        return len(self._samples.keys)

    def key(self, index: int) -> str:
        """The sample's name in the shard."""
        return self._samples.keys[index]

    def read(self, index: int) -> tuple[bytes, list[int]]:
        """Encoded image and class numbers of a sample."""
        with self._opened() as descriptor:
            return self._image(descriptor, index), self._labels(descriptor, index)

    def read_image(self, index: int) -> bytes:
        """Encoded image of a sample."""
        with self._opened() as descriptor:
            return self._image(descriptor, index)

    def read_labels(self, indices: Iterable[int]) -> list[list[int]]:
        """Class numbers: `.cls` is an integer; `.json` a list of them, {"labels": […]} or {"label": n}."""
        with self._opened() as descriptor:
            return [self._labels(descriptor, index) for index in indices]

    @contextmanager
    def _opened(self) -> Iterator[int]:
        descriptor = self._tar.open()
        try:
            if os.fstat(descriptor).st_size != self._tar_bytes:
                raise CorruptShardError(f"shard {self.location} changed its size while in use; start again")
            yield descriptor
        finally:
            os.close(descriptor)

    def _image(self, descriptor: int, index: int) -> bytes:
        offset, size, _, _ = self._samples.places[index].tolist()
        return os.pread(descriptor, size, offset)

    def _labels(self, descriptor: int, index: int) -> list[int]:
        _, _, offset, size = self._samples.places[index].tolist()
        raw = os.pread(descriptor, size, offset)
        try:
            return parse_json_labels(raw) if self._samples.label_is_json[index] else [int(raw)]
        except (ValueError, RecursionError) as error:
            raise CorruptSampleError(
                f"shard {self.location}: the label of sample {self.key(index)!r} cannot be read ({error}); expected an "
                'integer in .cls, or a list of integers, {"labels": [...]} or {"label": n} in .json'
            ) from error


def parse_json_labels(raw: bytes) -> list[int]:
    """Class numbers of a `.json` label; ValueError says what is wrong."""
    value = json.loads(raw)
    if isinstance(value, dict):
        if "labels" not in value and "label" not in value:
            raise ValueError("it has neither 'labels' nor 'label'")
        value = value["labels"] if "labels" in value else value["label"]
    labels = value if isinstance(value, list) else [value]
    if len(labels) > MAX_LABELS or any(type(label) is not int for label in labels):
        raise ValueError(f"labels must be at most {MAX_LABELS:,} integers")
    return labels


def group_samples(members: list[Member], location: str) -> Samples:
    """Adjacent members of one key become a sample; keys without image or label are errors, not gaps."""
    groups: dict[str, dict[str, Member]] = {}
    last_key = None
    for member in members:
        name = member.name
        dot = name.find(".", name.rfind("/") + 1)
        extension = name[dot + 1 :].lower()
        if extension not in DECLARED_EXTENSIONS or dot <= 0 or name[dot - 1] == "/":
            continue
        key = name[:dot]
        if key != last_key:
            if key in groups:
                raise CorruptShardError(
                    f"shard {location}: the members of {key!r} are not adjacent; sort them by name and pack again"
                )
            groups[key] = {}
            last_key = key
        limit = MAX_LABEL_BYTES if extension in LABEL_EXTENSIONS else MAX_IMAGE_BYTES
        if member.size > limit:
            raise CorruptShardError(
                f"shard {location}: {name!r} has {member.size:,} bytes, above the limit of {limit:,}; remove it"
            )
        if extension in groups[key]:
            raise CorruptShardError(f"shard {location}: {name!r} stands there twice; remove one of the two")
        groups[key][extension] = member
    places = np.empty((len(groups), 4), dtype=np.int64)
    is_json = np.zeros(len(groups), dtype=np.bool_)
    for row, (key, group) in enumerate(groups.items()):
        image, label = _image_and_label(key, group, location)
        places[row] = image.offset, image.size, label.offset, label.size
        is_json[row] = "cls" not in group
    return Samples(list(groups), places, is_json)


def _image_and_label(key: str, group: dict[str, Member], location: str) -> tuple[Member, Member]:
    images = [group[extension] for extension in IMAGE_EXTENSIONS if extension in group]
    # A bare class and a record of metadata often stand together; the class is the label.
    labels = [group[extension] for extension in LABEL_EXTENSIONS if extension in group]
    if len(images) != 1 or not labels:
        found = ", ".join(group)
        raise CorruptShardError(
            f"shard {location}: sample {key!r} has {found}, but needs exactly one image "
            f"({', '.join(IMAGE_EXTENSIONS)}) and a label (cls or json)"
        )
    return images[0], labels[0]
