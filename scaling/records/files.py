"""Writing small files so that a crash never leaves half of one.

A record is written to a temporary name in the same folder, flushed to the disk and renamed: a reader
sees the old file or the new one, never a mixture. Identities and checks of content are digests of one canonical text.
"""

import contextlib
import errno
import hashlib
import io
import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from scaling.errors import UserError

TEMPORARY = ".tmp"
"""Ending of files that are being written; what bears it and belongs to no living process is swept away."""


def open_regular(path: Path) -> io.BufferedReader:
    """A file to read. OSError for a pipe, a socket or a device: reading one may never end."""
    return open(_regular_descriptor(path, os.O_RDONLY), "rb")


def open_to_append(path: Path, *, follow_link: bool = True) -> BinaryIO:
    """A file to add to, made when there is none; OSError for a pipe or a device, and for a link unless that is
    followed."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | (0 if follow_link else os.O_NOFOLLOW)
    return open(_regular_descriptor(path, flags), "ab")


def _regular_descriptor(path: Path, flags: int) -> int:
    descriptor = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    try:
        refuse_irregular(descriptor, path)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def refuse_irregular(descriptor: int, path: Path) -> None:
    """OSError when an open file is a folder, a pipe or a device."""
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "is a pipe or a device, no file", str(path))


def check_folder(folder: Path) -> None:
    """UserError when a folder of this name cannot be made, because a file is in its place or above it."""
    there = next((path for path in (folder, *folder.parents) if path.exists()), None)
    if there is not None and not there.is_dir():
        raise UserError(f"{folder} cannot be made a folder: the file {there} is in its place; name another")


def make_folder(folder: Path) -> None:
    """Make a folder and those above it; UserError when something else is in its place."""
    check_folder(folder)
    folder.mkdir(parents=True, exist_ok=True)


def write_text_atomic(path: Path, text: str) -> None:
    """Replace `path` by `text`; durable when this returns."""
    temporary = _write_temporary(path, text)
    try:
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write_json_atomic(path: Path, value: Mapping[str, Any]) -> None:
    """Replace `path` by `value` as indented JSON; NaN and infinity are refused, since JSON has neither."""
    write_text_atomic(path, json_text(value))


def json_text(value: Mapping[str, Any]) -> str:
    """Indented JSON for people to read."""
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def create_exclusively(path: Path, text: str) -> bool:
    """Make `path` with `text` unless it exists; whether this process made it. Durable, and never half a file.

    By `link`, which overwrites nothing, also on NFS; its answer may be lost there, so the link count decides.
    """
    temporary = _write_temporary(path, text)
    try:
        with contextlib.suppress(OSError):
            path.hardlink_to(temporary)
        is_ours = temporary.stat().st_nlink == 2
    finally:
        temporary.unlink(missing_ok=True)
    if is_ours:
        sync_folder(path.parent)
    elif not path.exists():
        raise OSError(f"{path} can neither be made nor is it there; the file system has no hard links")
    return is_ours


def append_line(path: Path, line: bytes) -> None:
    """Add a whole line to a file of lines; on the disk when this returns. A torn line before it is closed first."""
    with open_to_append(path) as stream:
        if ends_inside_a_line(path):
            line = b"\n" + line
        stream.write(line)
        stream.flush()
        os.fsync(stream.fileno())


def ends_inside_a_line(path: Path) -> bool:
    """Whether the last line was cut before its line break."""
    if not path.exists() or path.stat().st_size == 0:
        return False
    with open_regular(path) as stream:
        stream.seek(-1, os.SEEK_END)
        return stream.read(1) != b"\n"


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable: without it a rename may be lost in a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_temporary(path: Path, text: str) -> Path:
    temporary = path.with_name(f".{path.name}.{os.uname().nodename}.{os.getpid()}{TEMPORARY}")
    try:
        # What UTF-8 cannot hold, such as a byte of a path that is none, is written as JSON and YAML escape it.
        with temporary.open("w", encoding="utf-8", errors="backslashreplace") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    return temporary


def canonical_json(value: Any) -> str:
    """One text for one value: sorted keys, no spaces, NaN refused."""
    return _CANONICAL.encode(value)


_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def content_digest(value: Any) -> str:
    """SHA-256, in hex, of the canonical JSON of `value`."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()
