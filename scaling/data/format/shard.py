"""The samples of one shard in tar order, and their bytes fetched by offset.

Members of one key (the name up to the first dot of its last component, as in WebDataset) are one sample: one
image (jpg, jpeg, jfif, jpe, png, webp) and one label (cls, or else json). Where all images and labels of a key have
names with further dots, `photo.v2.jpg` and `photo.v2.cls`, the key ends at the last dot instead, so that no sample is
lost. Other files are passed over unread, so a pickle in a shard is never opened, and they are counted by extension. A
sample without image or label, with two of one kind, with an image of a format that is not read, or whose members are
not adjacent is an error, because skipping it would change the count and mixing it would change the label.

No file stays open between two reads, so any number of shards can be in use; a shard that changes while it is in use
gives an error, not a crash as with a memory map.
"""

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scaling.data.format.ignore import Ignore
from scaling.data.format.labels import CLASS_NUMBERS, LabelRule, parse_cls, parse_json
from scaling.data.format.tar_headers import Member, read_members
from scaling.data.storage.integrity import CorruptSampleError, CorruptShardError
from scaling.data.storage.shard_files import LocalTar, ShardFiles
from scaling.records.run_plan import DEFAULT_ACCESS

IMAGE_EXTENSIONS = ("jpg", "jpeg", "jfif", "jpe", "png", "webp")
LABEL_EXTENSIONS = ("cls", "json")
UNREAD_IMAGE_EXTENSIONS = (
    *("bmp", "dib", "tif", "tiff", "gif", "avif", "heic", "heif", "jp2", "j2k", "jxl", "ppm", "pgm", "pbm", "pnm"),
    *("tga", "ico", "dds", "exr", "hdr", "svg", "raw", "dng", "cr2", "nef", "arw"),
)
"""Images of these formats are not read; they are named, never passed over in silence."""
DECLARED_EXTENSIONS = frozenset(IMAGE_EXTENSIONS + LABEL_EXTENSIONS + UNREAD_IMAGE_EXTENSIONS)

MAX_IMAGE_BYTES = 256 * 1024 * 1024
MAX_LABEL_BYTES = 1024 * 1024
"""Members above these are no photographs and no labels."""


@dataclass(frozen=True, slots=True)
class Samples:
    """Columns over a shard's samples."""

    keys: list[str]
    places: NDArray[np.int64]
    """(n, 4): image offset, image bytes, label offset, label bytes."""
    label_is_json: NDArray[np.bool_]
    passed_over: Counter[str]
    """Members that are no part of any sample, by what follows the key in their names."""


class Shard:
    """An indexed shard; threads may share one."""

    def __init__(
        self,
        location: str,
        tar: LocalTar | None = None,
        rule: LabelRule = CLASS_NUMBERS,
        ignore: Ignore | None = None,
    ) -> None:
        """`tar` is the shard on this machine; without it, it is opened with the defaults. Members that
        `ignore` matches are left out, and with an image its sample."""
        self.location = location
        self._rule = rule
        self._tar = tar or ShardFiles(DEFAULT_ACCESS).open(location)
        self._tar_bytes, self._stamp = -1, (0, 0)
        with self._opened() as descriptor:
            if self._tar_bytes == 0:
                raise CorruptShardError(f"shard {location} is empty; make or copy it again")
            listing = read_members(lambda start, size: os.pread(descriptor, size, start), self._tar_bytes, location)
        self.has_end_marker = listing.has_end_marker
        self._samples = group_samples(listing.members, location, ignore or Ignore())

    def __len__(self) -> int:
        return len(self._samples.keys)

    @property
    def passed_over(self) -> Counter[str]:
        """Members that are no part of any sample, counted by what follows the key in their names."""
        return self._samples.passed_over

    @property
    def empty_images(self) -> list[str]:
        """Keys of the samples whose image has no bytes; reading one gives an image that cannot be decoded."""
        return [self._samples.keys[index] for index in np.flatnonzero(self._samples.places[:, 1] == 0)]

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
        """Class numbers of samples, by the rule of the data set."""
        with self._opened() as descriptor:
            return [self._labels(descriptor, index) for index in indices]

    def read_label_values(self, indices: Iterable[int]) -> list[list[Any]]:
        """What stands in the labels of samples, before it becomes class numbers."""
        with self._opened() as descriptor:
            return [self._label_values(descriptor, index) for index in indices]

    def label_error(self, index: int, problem: object) -> CorruptSampleError:
        """A sample's label cannot be used."""
        return CorruptSampleError(
            f"shard {self.location}: the label of sample {self.key(index)!r} cannot be read ({problem}); expected an "
            'integer in .cls, or a list of integers, {"labels": [...]} or {"label": n} in .json'
        )

    @contextmanager
    def _opened(self) -> Iterator[int]:
        descriptor = self._tar.open()
        try:
            status = os.fstat(descriptor)
            if self._tar_bytes < 0:  # The first opening: a copy in a cache may be gone at any other moment.
                self._tar_bytes, self._stamp = status.st_size, (status.st_mtime_ns, status.st_ino)
            if status.st_size != self._tar_bytes:
                raise CorruptShardError(f"shard {self.location} changed its size while in use; start again")
            if (status.st_mtime_ns, status.st_ino) != self._stamp and self._tar.check is not None:
                # Written or replaced since it was indexed: the same bytes, or an error.
                self._tar.check()
                self._stamp = (status.st_mtime_ns, status.st_ino)
            yield descriptor
        finally:
            os.close(descriptor)

    def _image(self, descriptor: int, index: int) -> bytes:
        offset, size, _, _ = self._samples.places[index].tolist()
        return os.pread(descriptor, size, offset)

    def _labels(self, descriptor: int, index: int) -> list[int]:
        values = self._label_values(descriptor, index)
        try:
            return self._rule.class_numbers(values)
        except ValueError as error:
            raise self.label_error(index, error) from error

    def _label_values(self, descriptor: int, index: int) -> list[Any]:
        _, _, offset, size = self._samples.places[index].tolist()
        raw = os.pread(descriptor, size, offset)
        try:
            return parse_json(raw) if self._samples.label_is_json[index] else parse_cls(raw)
        except (ValueError, RecursionError) as error:
            raise self.label_error(index, error) from error


def group_samples(members: list[Member], location: str, ignore: Ignore) -> Samples:
    """Adjacent members of one key become a sample; keys without image or label are errors, not gaps, unless the image
    is ignored."""
    groups: dict[str, dict[str, Member]] = {}
    without_image: set[str] = set()
    passed_over: Counter[str] = Counter()
    last_key = None
    for member in members:
        name = member.name
        start = name.rfind("/") + 1
        dot = name.find(".", start)
        rest = name[dot + 1 :].lower()
        if dot < 0 or dot == start or rest.rpartition(".")[2] not in DECLARED_EXTENSIONS:
            passed_over["hidden files" if dot == start else f".{rest}"[:40] if dot > 0 else "no extension"] += 1
            continue
        key = name[:dot]
        if ignore and ignore.matches(name):
            passed_over["ignored as told"] += 1
            if not rest.endswith(LABEL_EXTENSIONS):
                without_image |= {key, name[: name.rfind(".")]}
            continue
        if key != last_key:
            if key in groups:
                raise CorruptShardError(
                    f"shard {location}: the members of {key!r} are not adjacent; sort them by name and pack again"
                )
            groups[key] = {}
            last_key = key
        limit = MAX_LABEL_BYTES if rest.endswith(LABEL_EXTENSIONS) else MAX_IMAGE_BYTES
        if member.size > limit:
            raise CorruptShardError(
                f"shard {location}: {name!r} has {member.size:,} bytes, above the limit of {limit:,}; remove it"
            )
        if rest in groups[key]:
            raise CorruptShardError(f"shard {location}: {name!r} stands there twice; remove one of the two")
        groups[key][rest] = member
    keys: list[str] = []
    places: list[tuple[int, int, int, int]] = []
    is_json: list[bool] = []
    for whole_key, group in groups.items():
        for key, fields in _split_dotted(whole_key, group):
            if key in without_image and not any(extension in fields for extension in IMAGE_EXTENSIONS):
                passed_over["label of an ignored image"] += 1
                continue
            image, label = _image_and_label(key, fields, location)
            places.append((image.offset, image.size, label.offset, label.size))
            is_json.append("cls" not in fields)
            keys.append(key)
            passed_over.update(f".{rest}" for rest, member in fields.items() if member not in (image, label))
    return Samples(
        keys, np.array(places, dtype=np.int64).reshape(-1, 4), np.array(is_json, dtype=np.bool_), passed_over
    )


def _split_dotted(key: str, group: dict[str, Member]) -> Iterator[tuple[str, dict[str, Member]]]:
    """A key's members as they are; by the name up to the last dot where every one of them has further dots."""
    if any("." not in rest for rest in group):
        yield key, group
        return
    parts: dict[str, dict[str, Member]] = {}
    for rest, member in group.items():
        extension = rest.rpartition(".")[2]
        parts.setdefault(member.name[: -len(extension) - 1], {})[extension] = member
    yield from parts.items()


def _image_and_label(key: str, group: dict[str, Member], location: str) -> tuple[Member, Member]:
    images = [group[extension] for extension in IMAGE_EXTENSIONS if extension in group]
    # A bare class and a record of metadata often stand together; the class is the label.
    labels = [group[extension] for extension in LABEL_EXTENSIONS if extension in group]
    if len(images) != 1 or not labels:
        found = ", ".join(group)
        raise CorruptShardError(
            f"shard {location}: sample {key!r} has {found}, but needs exactly one image "
            f"({', '.join(IMAGE_EXTENSIONS)}) and a label (cls or json) whose names are the key, one dot and the "
            "extension; rename or convert them and pack again"
        )
    return images[0], labels[0]
