"""Where the members of a tar lie: an index made by reading headers only, and a reader that fetches by offset.

Members are grouped into samples by key (the name up to the first dot of its last component, as WebDataset does).
Only declared members count: one image (jpg, jpeg, png, webp) and one label (cls, json) per sample; other
regular files are passed over unread, so a pickle in a shard is never opened. Links, devices and names that leave
the folder are refused, and so is a sample whose members are not adjacent, because two samples would be mixed.
"""

import gzip
import json
import mmap
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from scaling.errors import UserError

IMAGE_EXTENSIONS = ("jpg", "jpeg", "png", "webp")
LABEL_EXTENSIONS = ("cls", "json")

BLOCK = 512

MAX_MEMBER_BYTES = 256 * 1024 * 1024
"""A declared member above this is not a photograph or a label."""

MAX_UNPACKED_BYTES = 4 * 1024**3
"""Of a gzipped shard, which is unpacked in memory."""


@dataclass(frozen=True, slots=True)
class Member:
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class Sample:
    """One image with its label, as places in the shard."""

    key: str
    image: Member
    label: Member
    label_extension: str


class CorruptShardError(UserError):
    """The shard is not what a shard must be; the text names shard and member."""


class Shard:
    """One opened local shard: its samples in tar order and their bytes."""

    def __init__(self, location: str) -> None:
        if location.startswith("pipe:") or "://" in location:
            raise UserError(f"shard {location}: only local files are read; copy the shard and index it again")
        self.location = location
        path = Path(location)
        try:
            with path.open("rb") as stream:
                is_gzip = stream.read(2) == b"\x1f\x8b"
                stream.seek(0)
                self._data: bytes | mmap.mmap = (
                    _unpack(path) if is_gzip else mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
                )
        except OSError as error:
            raise UserError(
                f"shard {location} cannot be read ({error.strerror}); is the manifest's folder right?"
            ) from error
        except ValueError as error:
            raise CorruptShardError(f"shard {location} is empty; make or copy it again") from error
        self._view = memoryview(self._data)
        self.samples = group_samples(index_members(self._view, location), location)

    def image_bytes(self, sample: Sample) -> memoryview:
        return self._view[sample.image.offset : sample.image.offset + sample.image.size]

    def labels(self, sample: Sample) -> list[int]:
        """The sample's class numbers, from `.cls` (an integer) or `.json` (a list, {"labels": […]} or {"label": n})."""
        raw = bytes(self._view[sample.label.offset : sample.label.offset + sample.label.size])
        try:
            if sample.label_extension == "cls":
                return [int(raw)]
            value = json.loads(raw)
            if isinstance(value, dict):
                value = value["labels"] if "labels" in value else value["label"]
            labels = value if isinstance(value, list) else [value]
            if any(isinstance(label, bool) or not isinstance(label, int) for label in labels):
                raise ValueError("labels are integers")
            return labels
        except (ValueError, KeyError, TypeError) as error:
            raise CorruptShardError(
                f"shard {self.location}: label of sample {sample.key!r} cannot be read ({error}); expected an integer "
                'in .cls, or a list, {"labels": [...]} or {"label": n} in .json'
            ) from error


def index_members(data: memoryview, location: str) -> list[tuple[str, Member]]:
    """Names and places of the regular members of a tar (ustar, GNU and pax names), in file order."""
    members: list[tuple[str, Member]] = []
    offset, long_name = 0, ""
    while offset + BLOCK <= len(data):
        header = bytes(data[offset : offset + BLOCK])
        if header == bytes(BLOCK):
            return members
        size = _number(header[124:136], location, offset)
        if header[257:262] != b"ustar" or _checksum(header) != _number(header[148:156], location, offset):
            raise CorruptShardError(f"shard {location}: no tar header at byte {offset}; make or copy the shard again")
        start, kind = offset + BLOCK, header[156:157]
        if start + size > len(data):
            raise CorruptShardError(f"shard {location} is cut off inside a member at byte {offset}; copy it again")
        if kind == b"L":
            long_name = bytes(data[start : start + size]).rstrip(b"\0").decode("utf-8", "surrogateescape")
        elif kind == b"x":
            long_name = _pax_path(bytes(data[start : start + size])) or long_name
        else:
            name = long_name or _header_name(header)
            long_name = ""
            if kind in (b"0", b"\0"):
                members.append((name, Member(start, size)))
            elif kind not in (b"5", b"g"):
                raise CorruptShardError(f"shard {location}: member {name!r} is a link or device; only files are read")
        offset = start + (size + BLOCK - 1) // BLOCK * BLOCK
    return members


def group_samples(members: list[tuple[str, Member]], location: str) -> list[Sample]:
    """Adjacent members of one key become a sample; keys without image or label are errors, not gaps."""
    groups: dict[str, dict[str, Member]] = {}
    last_key = None
    for name, member in members:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts:
            raise CorruptShardError(f"shard {location}: the member name {name!r} leaves its folder; refused")
        stem, _, extension = path.name.partition(".")
        extension = extension.lower()
        if not stem or extension not in IMAGE_EXTENSIONS + LABEL_EXTENSIONS:
            continue
        key = str(path.with_name(stem))
        if key in groups and key != last_key:
            raise CorruptShardError(f"shard {location}: members of {key!r} are not adjacent; build the shard again")
        if member.size > MAX_MEMBER_BYTES:
            raise CorruptShardError(f"shard {location}: {name!r} has {member.size:,} bytes, above {MAX_MEMBER_BYTES:,}")
        if extension in groups.setdefault(key, {}):
            raise CorruptShardError(f"shard {location}: {name!r} stands there twice; build the shard again")
        groups[key][extension] = member
        last_key = key
    return [_sample(key, group, location) for key, group in groups.items()]


def _sample(key: str, group: dict[str, Member], location: str) -> Sample:
    images = [extension for extension in IMAGE_EXTENSIONS if extension in group]
    labels = [extension for extension in LABEL_EXTENSIONS if extension in group]
    if len(images) != 1 or not labels:
        found = ", ".join(group)
        raise CorruptShardError(f"shard {location}: sample {key!r} has {found}; it needs one image and a cls or json")
    # img2dataset writes both a bare class and a caption record; the class is the label.
    return Sample(key, group[images[0]], group[labels[0]], labels[0])


def _unpack(path: Path) -> bytes:
    with gzip.open(path) as stream:
        try:
            data = stream.read(MAX_UNPACKED_BYTES + 1)
        except (EOFError, gzip.BadGzipFile) as error:
            raise CorruptShardError(f"shard {path} is a broken gzip file ({error}); copy it again") from error
    if len(data) > MAX_UNPACKED_BYTES:
        raise CorruptShardError(f"shard {path} unpacks to more than {MAX_UNPACKED_BYTES:,} bytes; use smaller shards")
    return data


def _number(field: bytes, location: str, offset: int) -> int:
    """A tar number: octal text, or base 256 when its first bit is set."""
    if field[0] & 0x80:
        return int.from_bytes(bytes([field[0] & 0x7F]) + field[1:], "big")
    try:
        return int(field.rstrip(b"\0 ").lstrip() or b"0", 8)
    except ValueError as error:
        raise CorruptShardError(f"shard {location}: no tar header at byte {offset}; copy the shard again") from error


def _checksum(header: bytes) -> int:
    return sum(header) - sum(header[148:156]) + 8 * 32


def _header_name(header: bytes) -> str:
    name, prefix = header[:100].split(b"\0", 1)[0], header[345:500].split(b"\0", 1)[0]
    # GNU tars keep times where ustar has the prefix; their magic ends in a space.
    full = prefix + b"/" + name if prefix and header[257:263] == b"ustar\0" else name
    return full.decode("utf-8", "surrogateescape")


def _pax_path(records: bytes) -> str:
    """The `path` of a pax header, empty when it has none."""
    while records:
        length_text, _, _ = records.partition(b" ")
        if not length_text.isdigit() or int(length_text) <= len(length_text):
            return ""
        record, records = records[: int(length_text)], records[int(length_text) :]
        key, _, value = record[len(length_text) + 1 :].rstrip(b"\n").partition(b"=")
        if key == b"path":
            return value.decode("utf-8", "surrogateescape")
    return ""
