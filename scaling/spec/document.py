"""A sweep file with the place of each value, so that an error can name file and line.

Only bounded, plain data is read (`scaling.spec.plain_yaml`); a key written twice in one mapping is refused, because
YAML would silently keep the last. `--set key=value` edits the data before anybody interprets it, and the place of such
a value is the option itself.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scaling.errors import UserError, shown
from scaling.records.run_dir import StudyDir
from scaling.spec.plain_yaml import MAX_DEPTH, KeyPath, YamlProblem, YamlSyntax, read_yaml

__all__ = ["Document", "KeyPath", "dotted", "load_document"]

MAX_BYTES = 1_000_000
"""Of a sweep file: ten thousand runs written one by one."""

_WIDE_MARKS = (b"\xff\xfe", b"\xfe\xff")
"""How files in UTF-16 and UTF-32 begin."""


@dataclass
class Document:
    """The parsed data and the line (or option) each value came from."""

    path: Path
    data: dict[str, Any]
    _lines: dict[KeyPath, int] = field(default_factory=dict)
    _options: dict[KeyPath, str] = field(default_factory=dict)

    def where(self, place: Sequence[str | int]) -> str:
        """`file:line` of the value at `place`, or of its nearest enclosing value that has one; or the option."""
        for length in range(len(place), -1, -1):
            prefix = tuple(place[:length])
            if prefix in self._options:
                return self._options[prefix]
            if prefix in self._lines:
                return f"{self.path}:{self._lines[prefix]}"
            # An option has made a value around its own that the file does not have.
            for known, label in self._options.items():
                if known[:length] == prefix:
                    return label
        return str(self.path)

    def is_from_option(self, place: Sequence[str | int]) -> bool:
        """Whether a `--set` option gave the value at `place`, one around it or one inside it."""
        return any(all(one == other for one, other in zip(given, place, strict=False)) for given in self._options)

    def is_option(self, place: Sequence[str | int]) -> bool:
        """Whether a `--set` option names this very place."""
        return tuple(place) in self._options

    def is_narrowed(self, sections: Iterable[str]) -> bool:
        """Whether a `--set` option gave a value somewhere in one of these top-level fields, now or when a study
        directory kept this file."""
        is_kept = self.path == StudyDir(self.path.parent).sweep and StudyDir(self.path.parent).order.exists()
        return is_kept or not {place[0] for place in self._options}.isdisjoint(sections)

    def error(self, place: Sequence[str | int], message: str) -> UserError:
        """A UserError that begins with the place: `file:line: field: message`."""
        name = dotted(place)
        return UserError(f"{self.where(place)}: {name + ': ' if name else ''}{message}")

    def apply_option(self, option: str, at: KeyPath = ()) -> None:
        """Apply one `--set key=value` inside the value at `at`; the key is dotted, list positions are numbers, the
        value is YAML."""
        key, separator, text = option.partition("=")
        label = f"--set {_cut(option)}"
        if not separator or not key:
            raise UserError(f"{label}: write key=value, for example --set protocol.steps=100")
        if "[" in key and "]" in key:
            dots = key.replace("[", ".").replace("]", "").strip(".")
            raise UserError(f"{label}: positions of a list are written with dots: --set {_cut(dots)}=…")
        place = self._resolve(key, label, at)
        try:
            value, _ = read_yaml(text)
        except YamlSyntax as problem:
            raise UserError(
                f"{label}: the value is not YAML ({problem}); quote the option, for example --set 'x=[1, 2]'"
            ) from problem
        except YamlProblem as problem:
            raise UserError(f"{label}: {dotted((*place, *problem.place))}: {problem}") from problem
        target: Any = self.data
        for part in place[:-1]:
            if isinstance(target, dict) and target.get(str(part)) is None:
                target[str(part)] = {}
            target = target[part]
        target[place[-1]] = value
        # What stood below this place in the file is gone, and so are its lines.
        self._lines = {known: line for known, line in self._lines.items() if known[: len(place)] != place}
        self._options = {known: text for known, text in self._options.items() if known[: len(place)] != place}
        self._options[place] = label

    def _resolve(self, key: str, label: str, at: KeyPath) -> KeyPath:
        """Turn a dotted key inside `at` into a place; the longest existing key wins, so that `defaults.a.b` and names
        with dots both work."""
        place: list[str | int] = list(at)
        target: Any = self.data
        for part in at:
            target = target[part]
        parts = key.split(".")
        if len(parts) > MAX_DEPTH:
            raise UserError(f"{label}: a key of {len(parts)} parts; a sweep is at most {MAX_DEPTH} deep")
        while parts:
            if isinstance(target, list):
                head = parts.pop(0)
                if not (head.isascii() and head.isdecimal() and len(head) < 10) or int(head) >= len(target):
                    raise UserError(
                        f"{label}: {dotted(place)} is a list of {len(target)}; name a position from 0 to "
                        f"{len(target) - 1}"
                    )
                place.append(int(head))
                target = target[int(head)]
            elif isinstance(target, dict):
                joined = ".".join(parts)
                # Inside a section `protocol.steps` is one key, also where the file has none such yet.
                is_one = joined in target or (bool(place) and parts[0] == "protocol")
                head = joined if is_one else parts[0]
                parts = [] if is_one else parts[1:]
                place.append(head)
                target = target.get(head)
            elif target is None:
                place.append(parts.pop(0))
            else:
                raise UserError(f"{label}: {dotted(place)} is the value {shown(target)} and has no fields")
        return tuple(place)


def dotted(place: Iterable[str | int]) -> str:
    """`grid.fraction[2]` for ("grid", "fraction", 2)."""
    text = ""
    for part in place:
        name = _cut(part) if isinstance(part, str) else ""
        text += f"[{part}]" if isinstance(part, int) else f".{name}" if text else name
    return text


SWEEP_FORM = "a sweep is a mapping that begins with 'study: NAME'; see sweeps/quickstart.yaml"


def load_document(path: Path, options: Iterable[str] = (), form: str = SWEEP_FORM) -> Document:
    """Read a YAML mapping and apply `--set` options in order; `form` says what to write where it is none."""
    try:
        data, lines = read_yaml(_read_text(path))
    except YamlProblem as problem:
        line = "" if problem.line is None else f":{problem.line}"
        if isinstance(problem, YamlSyntax):
            raise UserError(
                f"{path}{line}: not valid YAML ({problem}); check indentation and quotes there"
            ) from problem
        name = dotted(problem.place)
        raise UserError(f"{path}{line}: {name + ': ' if name else ''}{problem}") from problem
    if not isinstance(data, dict):
        raise UserError(f"{path}: {form}")
    document = Document(path, data, lines)
    for option in options:
        document.apply_option(option)
    return document


def _read_text(path: Path) -> str:
    """A file in UTF-8, with or without a byte order mark."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); name an existing sweep file") from error
    if len(content) > MAX_BYTES:
        raise UserError(f"{path}: more than {MAX_BYTES:,} bytes; a sweep is shorter, with its runs written as a grid")
    if content.startswith(_WIDE_MARKS) or b"\0" in content:
        raise UserError(f"{path}: it is in UTF-16 or no text at all; save it as UTF-8")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"{path}:{line}: the byte 0x{content[error.start]:02x} is not UTF-8, so the file is in another encoding "
            "such as Latin-1; save it as UTF-8"
        ) from error


def _cut(text: str) -> str:
    """A name or an option as a message can hold it: on one line, and short."""
    one_line = text if text.isprintable() else repr(text)[1:-1]
    return one_line if len(one_line) <= 100 else one_line[:80] + "…"
