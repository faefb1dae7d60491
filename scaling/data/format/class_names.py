"""Files that name the classes of a data set, and text files as people save them.

A file of classes holds one name a line, `number<tab>name` lines, a JSON list of names, a JSON object from names to
numbers or from numbers to names, or is the manifest of another data set. Where it has numbers, they are what stands in
the labels; classes are counted in the order of the file.
"""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scaling.data.format.labels import MAX_CLASSES, check_values
from scaling.errors import UserError, shown, unprintable
from scaling.plain_json import read_json

BYTE_ORDER_MARKS = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}

MAX_TEXT_BYTES = 256 * 1024 * 1024
"""Of a file of class names."""

NUMBERED = re.compile(r"(\d+)[ ,;:.)=]+\S")
"""A line that begins with a number, separated by something else than a tab."""


@dataclass(frozen=True)
class ClassNames:
    """Names of classes in their order."""

    names: tuple[str, ...]
    values: tuple[int, ...] = ()
    """What stands for each in labels; empty when that is the class number, 0, 1, …"""


def text_encoding(path: Path) -> str:
    """UTF-8, or what a byte order mark at the start of a file says."""
    try:
        with path.open("rb") as stream:
            head = stream.read(4)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror})") from error
    return encoding_of(head, path)


def encoding_of(head: bytes, path: Path) -> str:
    """UTF-8, or what a byte order mark at the start of a text says; UserError for UTF-32, and UTF-16 without a mark."""
    name = next((name for mark, name in BYTE_ORDER_MARKS.items() if head.startswith(mark)), "utf-8")
    if b"\0\0" in head[:4] or (name != "utf-16" and b"\0" in head[:4]):
        raise UserError(f"{path} is UTF-32, or UTF-16 without a byte order mark; save it as UTF-8")
    return name


def encoding_error(path: Path, error: UnicodeError) -> UserError:
    """A text file is in another encoding than it seems."""
    where = f" at byte {error.start:,}" if isinstance(error, UnicodeDecodeError) else ""
    return UserError(f"{path} is not UTF-8{where} (Latin-1, perhaps); save it as UTF-8")


def clean_name(text: str) -> str:
    """A class name without blanks around it, in the one form of Unicode (NFC) that file systems do not agree on."""
    return unicodedata.normalize("NFC", text.strip())


def refuse_unprintable(name: str, where: str) -> None:
    """UserError for a class name with a character that moves the cursor, breaks the line or turns the text round
    wherever the name is shown, or that UTF-8 cannot hold."""
    character = unprintable(name)
    if character:
        is_utf8 = not any("\ud800" <= letter <= "\udfff" for letter in name)
        reason = f"holds {character}, which is not printable" if is_utf8 else "is not UTF-8"
        raise UserError(f"{where}: the name of class {shown(name)} {reason}; rename it")


def read_classes(path: Path) -> ClassNames:
    """The classes that a file names; UserError says which line or name is wrong."""
    try:
        with path.open("rb") as stream:
            content = stream.read(MAX_TEXT_BYTES + 1)  # A pipe or a device tells no size.
        if len(content) > MAX_TEXT_BYTES:
            raise UserError(f"--classes {path} has more than {MAX_TEXT_BYTES:,} bytes; it holds class names")
        text = content.decode(encoding_of(content[:4], path))
    except UnicodeError as error:
        raise encoding_error(path, error) from error
    except OSError as error:
        raise UserError(f"--classes {path} cannot be read ({error.strerror}); it holds class names") from error
    except UserError as error:
        raise UserError(f"--classes {error}") from error
    is_json = path.suffix == ".json" or text.lstrip()[:1] in ("[", "{")
    found = _from_json(path, text) if is_json else _from_lines(path, text)
    return _checked(path, found)


def _from_lines(path: Path, text: str) -> ClassNames:
    # `splitlines` would also break lines at characters that a name can hold.
    lines = [line.strip(" \r\v\f") for line in re.split(r"\r\n|\n|\r", text.rstrip())]
    blank = next((number for number, line in enumerate(lines, 1) if not line.strip()), None)
    if blank is not None:
        raise UserError(f"--classes {path}: line {blank} is blank; a class has a name, and every line counts")
    pairs = [line.split("\t", 1) for line in lines]
    if all(len(pair) == 2 and re.fullmatch(r"\d{1,15}", pair[0].strip()) for pair in pairs):
        return ClassNames(tuple(name for _, name in pairs), tuple(int(number) for number, _ in pairs))
    if len(lines) > 1 and all(NUMBERED.match(line) for line in lines):
        raise UserError(
            f"--classes {path}: every line begins with a number, such as {lines[0][:40]!r}; separate number and name "
            "by a tab, or leave the numbers out"
        )
    return ClassNames(tuple(line.strip() for line in lines))


def _from_json(path: Path, text: str) -> ClassNames:
    try:
        body = read_json(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"--classes {path} is not JSON ({error}); write one name a line, or a JSON list") from error
    if isinstance(body, dict) and isinstance(body.get("classes"), list) and "schema" in body:
        rule = body.get("labels")
        values = rule.get("values", ()) if isinstance(rule, dict) else ()
        return ClassNames(tuple(body["classes"]), tuple(values))
    if isinstance(body, dict) and body:
        return _from_mapping(path, body)
    if isinstance(body, list):
        return ClassNames(tuple(body))
    raise UserError(f"--classes {path}: it is neither a list of names nor an object of names and numbers")


def _from_mapping(path: Path, body: Mapping[str, Any]) -> ClassNames:
    if all(type(value) is int for value in body.values()):
        pairs = sorted((value, name) for name, value in body.items())
    elif all(re.fullmatch(r"\d{1,15}", key) and type(name) is str for key, name in body.items()):
        pairs = sorted((int(key), str(name)) for key, name in body.items())
    else:
        raise UserError(
            f'--classes {path}: its object must lead from names to numbers ({{"cat": 0}}) or from numbers to names'
        )
    return ClassNames(tuple(name for _, name in pairs), tuple(number for number, _ in pairs))


def _checked(path: Path, found: ClassNames) -> ClassNames:
    wrong = [name for name in found.names if type(name) is not str or not name.strip()]
    if wrong:
        raise UserError(f"--classes {path}: {shown(wrong[0])} is not the name of a class; names are texts")
    names = tuple(map(clean_name, found.names))
    for name in names:
        refuse_unprintable(name, f"--classes {path}")
    if not 1 <= len(names) <= MAX_CLASSES:
        raise UserError(f"--classes {path} holds {len(names):,} names; a data set has 1 to {MAX_CLASSES:,} classes")
    refuse_repeated(names, f"--classes {path}")
    try:
        check_values(found.values)
    except ValueError as error:
        raise UserError(f"--classes {path}: it {error}; number each class once") from error
    values = () if found.values == tuple(range(len(names))) else found.values
    return ClassNames(names, values)


def refuse_repeated(names: Sequence[str], where: str) -> None:
    """UserError when two classes have one name."""
    seen: dict[str, int] = {}
    for number, name in enumerate(names):
        first = seen.setdefault(name, number)
        if first != number:
            raise UserError(f"{where}: {name!r} names class {first} and class {number}; give each a name of its own")
