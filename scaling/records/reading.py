"""The base of every record, and one way in for all: bytes, JSON, type, schema version, digest; any damage is one error
with the path.

A record written by `write_record` carries the SHA-256 of its content, so a flipped bit is reported and never read as
another number. Records of many lines (`events.jsonl`, `ends.jsonl`) carry a CRC-32 in every line.
"""

import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from scaling.errors import UserError
from scaling.records.files import content_digest, json_text, open_regular, write_json_atomic, write_text_atomic

CONTENT_DIGEST = "content_sha256"
"""Key under which a record holds the digest of everything else in it."""

MAX_RECORD_BYTES = 64 * 2**20
"""No record of one object is anywhere near as large."""

_SEAL = ', "crc32": "'

M = TypeVar("M", bound=BaseModel)


class RecordError(UserError):
    """A record cannot be read: `path` and one sentence why."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(f"{path}: {problem}")
        self.path, self.problem = path, problem


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file; FileNotFoundError when there is none, RecordError for anything else that is wrong."""
    try:
        with open_regular(path) as stream:
            content = stream.read(MAX_RECORD_BYTES + 1)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise RecordError(path, f"cannot be read ({(error.strerror or str(error)).lower()})") from error
    if len(content) > MAX_RECORD_BYTES:
        raise RecordError(path, f"is larger than {MAX_RECORD_BYTES // 2**20} MiB, which no record is")
    return parse_object(path, content)


def parse_object(path: Path, content: bytes) -> dict[str, Any]:
    """The JSON object in `content`; RecordError names `path`."""
    if not content.strip(b"\0 \t\r\n"):
        raise RecordError(path, "is empty")
    try:
        value = json.loads(content.decode(), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        problem = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise RecordError(path, f"is not readable JSON ({problem[:120]})") from error
    if not isinstance(value, dict):
        raise RecordError(path, f"holds a {type(value).__name__} where an object is expected")
    return value


def read_record(path: Path, kind: type[M], *, schema_key: str, schema: int) -> M:
    """A record that `write_record` wrote; FileNotFoundError when there is none."""
    return parse_record(path, read_object(path), kind, schema_key=schema_key, schema=schema)


def parse_record(path: Path, value: Mapping[str, Any], kind: type[M], *, schema_key: str, schema: int) -> M:
    """The record in the object that was read from `path`."""
    written = value.get(schema_key)
    if written != schema:
        raise RecordError(
            path, f"{schema_key} is {str(written)[:20]}, this version reads {schema}; plan and train the study again"
        )
    return validate(path, kind, _unsealed(path, value))


def read_sealed(path: Path) -> dict[str, Any]:
    """What `write_sealed` wrote; FileNotFoundError when there is none, RecordError when it is damaged."""
    return _unsealed(path, read_object(path))


def write_sealed(path: Path, value: Mapping[str, Any]) -> None:
    """Replace `path` by an object and its digest; durable when this returns."""
    write_json_atomic(path, sealed(value))


def sealed(value: Mapping[str, Any]) -> dict[str, Any]:
    """An object with its digest."""
    return {**value, CONTENT_DIGEST: content_digest(value)}


def _unsealed(path: Path, value: Mapping[str, Any]) -> dict[str, Any]:
    """The object without its digest, which fits."""
    content = {key: entry for key, entry in value.items() if key != CONTENT_DIGEST}
    try:
        found = content_digest(content)
    except (ValueError, RecursionError) as error:
        raise RecordError(path, f"cannot be checked ({error})") from error
    if value.get(CONTENT_DIGEST) != found:
        raise RecordError(path, f"is not what was written: its {CONTENT_DIGEST} does not fit its content")
    return content


def validate(path: Path, kind: type[M], value: Mapping[str, Any]) -> M:
    """`value` as a `kind`; RecordError names the first field that does not fit."""
    try:
        return kind.model_validate_json(json.dumps(value))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or kind.__name__
        raise RecordError(path, f"{where}: {first['msg']}") from error


def write_record(path: Path, record: BaseModel) -> None:
    """Replace `path` by the record and its digest; durable when this returns."""
    write_text_atomic(path, sealed_text(record))


def sealed_text(record: BaseModel) -> str:
    """A record as JSON with its digest."""
    return json_text(sealed(record.model_dump(mode="json")))


def seal_line(row: Mapping[str, Any]) -> bytes:
    """One line of JSON that ends with a CRC-32 of itself, with its line break. What UTF-8 cannot hold, such as a byte
    of a path that is none, is written as JSON escapes it."""
    text = json.dumps(row, ensure_ascii=False, allow_nan=False)[:-1].encode("utf-8", "backslashreplace")
    return text + f'{_SEAL}{zlib.crc32(text):08x}"}}\n'.encode()


def is_intact(line: bytes) -> bool:
    """Whether a line, without or with its line break, is as `seal_line` wrote it."""
    text, seal, end = line.rstrip(b"\r\n").rpartition(_SEAL.encode())
    return bool(seal) and end == b'%08x"}' % zlib.crc32(text)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


class Frozen(BaseModel):
    """Written once and never changed, as plans and the parts of a sweep are; unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=(), allow_inf_nan=False)
