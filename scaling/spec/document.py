"""A YAML file that remembers where each value stands, so that an error can name file and line.

Only plain data is read (`yaml.SafeLoader`); a key written twice in one mapping is refused, because YAML would
silently keep the last. `--set key=value` edits the data before anybody interprets it, and the place of such
a value is the option itself.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from scaling.errors import UserError

Place = tuple[str | int, ...]
"""Path of a value in the document: mapping keys and list positions."""


@dataclass
class Document:
    """The parsed data and the line (or option) each value came from."""

    path: Path
    data: dict[str, Any]
    _lines: dict[Place, int] = field(default_factory=dict)
    _options: dict[Place, str] = field(default_factory=dict)

    def where(self, place: Sequence[str | int]) -> str:
        """`file:line` of the value at `place`, or of its nearest enclosing value that has one."""
        for length in range(len(place), -1, -1):
            prefix = tuple(place[:length])
            if prefix in self._options:
                return self._options[prefix]
            if prefix in self._lines:
                return f"{self.path}:{self._lines[prefix]}"
        return str(self.path)

    def error(self, place: Sequence[str | int], message: str) -> UserError:
        """A UserError that begins with the place: `file:line: field: message`."""
        name = dotted(place)
        return UserError(f"{self.where(place)}: {name + ': ' if name else ''}{message}")

    def apply_option(self, option: str) -> None:
        """Apply one `--set key=value`; the key is dotted, list positions are numbers, the value is YAML."""
        key, separator, text = option.partition("=")
        if not separator or not key:
            raise UserError(f"--set {option}: write key=value, for example --set protocol.steps=100")
        place = self._resolve(key, option)
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise UserError(f"--set {option}: the value is not YAML; quote it, for example --set 'x=[1, 2]'") from error
        target: Any = self.data
        for part in place[:-1]:
            target = target.setdefault(part, {}) if isinstance(target, dict) else target[part]
        target[place[-1]] = value
        # What stood below this place in the file is gone, and so are its lines.
        self._lines = {known: line for known, line in self._lines.items() if known[: len(place)] != place}
        self._options[place] = f"--set {option}"

    def _resolve(self, key: str, option: str) -> Place:
        """Turn a dotted key into a place; the longest existing key wins, so that `defaults.a.b` and names with
        dots both work."""
        place: list[str | int] = []
        target: Any = self.data
        parts = key.split(".")
        while parts:
            if isinstance(target, list):
                head = parts.pop(0)
                if not head.isdigit() or int(head) >= len(target):
                    raise UserError(
                        f"--set {option}: {dotted(place)} is a list of {len(target)}; name a position from 0 to "
                        f"{len(target) - 1}"
                    )
                place.append(int(head))
                target = target[int(head)]
            elif isinstance(target, dict):
                joined = ".".join(parts)
                head = joined if joined in target else parts[0]
                parts = [] if joined in target else parts[1:]
                place.append(head)
                target = target.get(head, {})
            elif target is None:
                place.append(parts.pop(0))
            else:
                raise UserError(f"--set {option}: {dotted(place)} is the value {target!r} and has no fields")
        return tuple(place)


def dotted(place: Iterable[str | int]) -> str:
    """`grid.fraction[2]` for ("grid", "fraction", 2)."""
    text = ""
    for part in place:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def load_document(path: Path, options: Iterable[str] = ()) -> Document:
    """Read a YAML mapping and apply `--set` options in order."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); name an existing sweep file") from error
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark is not None else ""
        problem = getattr(error, "problem", None) or str(error)
        raise UserError(f"{path}{line}: not valid YAML ({problem}); check indentation and quotes there") from error
    if not isinstance(data, dict):
        raise UserError(f"{path}: a sweep is a mapping that begins with 'study: NAME'; see sweeps/quickstart.yaml")
    document = Document(path, data)
    _collect_lines(document, root, ())
    for option in options:
        document.apply_option(option)
    return document


def _collect_lines(document: Document, node: yaml.Node | None, place: Place) -> None:
    if node is None:
        return
    document._lines.setdefault(place, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key_node, value_node in node.value:
            key = str(key_node.value)
            if key in seen:
                raise UserError(
                    f"{document.path}:{key_node.start_mark.line + 1}: {dotted((*place, key))}: written twice in one "
                    "mapping; remove one of the two"
                )
            seen.add(key)
            document._lines[(*place, key)] = key_node.start_mark.line + 1
            _collect_lines(document, value_node, (*place, key))
    elif isinstance(node, yaml.SequenceNode):
        for position, item in enumerate(node.value):
            _collect_lines(document, item, (*place, position))
