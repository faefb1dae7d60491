"""Writing small files so that a crash never leaves half of one.

A record is written to a temporary name in the same folder, flushed to the disk and renamed: a reader
sees the old file or the new one, never a mixture.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def write_text_atomic(path: Path, text: str) -> None:
    """Replace `path` by `text`; durable when this returns."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with temporary.open("w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(path)
    sync_folder(path.parent)


def write_json_atomic(path: Path, value: Mapping[str, Any]) -> None:
    """Replace `path` by `value` as indented JSON; NaN and infinity are refused, since JSON has neither."""
    write_text_atomic(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable: without it a rename may be lost in a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
