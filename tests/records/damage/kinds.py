"""The kinds of damage that a record is given."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from scaling.records.files import content_digest


def content_of(path: Path) -> bytes:
    return path.read_bytes() if path.is_file() else b'{"a": 1}\n'


def with_schema_99(content: bytes) -> bytes:
    """A later version of the record, its digest right."""
    try:
        value = json.loads(content)
    except ValueError:
        return content.replace(b'"schema": 2', b'"schema": 99')
    for name in value:
        value[name] = 99 if name.endswith("_schema") else value[name]
    if value.pop("content_sha256", None):
        value["content_sha256"] = content_digest(value)
    return json.dumps(value).encode()


def flipped(content: bytes, bit: int) -> bytes:
    changed = bytearray(content)
    changed[bit // 8 % len(changed)] ^= 1 << bit % 8
    return bytes(changed)


CONTENTS: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "zeros": lambda content: bytes(len(content)),
    "torn": lambda content: content[: len(content) // 2],
    "bit flip": lambda content: flipped(content, 4 * len(content)),
    "a list": lambda content: b"[1, 2]",
    "a text": lambda content: b'"hello"',
    "null": lambda content: b"null",
    "schema": with_schema_99,
    "NaN": lambda content: b'{"a": NaN}',
    "nested": lambda content: b'{"a": ' + b"[" * 200_000 + b"]" * 200_000 + b"}",
    "huge number": lambda content: b'{"a": 1' + b"0" * 6000 + b', "status": 1e999}',
    "not UTF-8": lambda content: b"\xff\xfe" + content,
    "twice": lambda content: content + content,
}


def in_its_place(path: Path, what: str) -> None:
    """Something that is no file."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    if what == "folder":
        path.mkdir(parents=True)
    elif what == "pipe":
        os.mkfifo(path)
    elif what == "file":
        path.write_bytes(b"")
    elif what == "endless":
        path.symlink_to("/dev/zero")
    else:
        path.symlink_to(path.name if what == "link to itself" else "nowhere")


PLACES = ("folder", "link to itself", "dangling link", "pipe", "endless")


def damages(path: Path, other: Path) -> Iterator[tuple[str, Callable[[], object]]]:
    """Names and actions; each spoils `path`, whose twin of the sound run is `other`."""
    content = content_of(path)
    for name, spoil in CONTENTS.items():
        yield name, lambda spoil=spoil: path.write_bytes(spoil(content))  # type: ignore[misc]
    yield "of another run", lambda: path.write_bytes(content_of(other))
    for place in PLACES:
        yield place, lambda place=place: in_its_place(path, place)  # type: ignore[misc]
