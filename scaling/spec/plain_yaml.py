"""YAML as plain data, bounded before it is built: what a sweep file, a `--set` value and a recipe are read with.

Mappings, lists, texts, numbers, true, false and null; no tags, no dates, no objects. Numbers are those of JSON and
YAML 1.2 (`3e-4` is one, `010` and `1:30` are texts, `yes` and `no` are texts), with `_` between digits. Anchors and
merge keys work, and count as often as they are used, so that a file of ten lines cannot become a billion values.
"""

import copy
import itertools
import math
import re
from collections.abc import Iterator
from typing import Any

import yaml

KeyPath = tuple[str | int, ...]
"""Path of a value in a document: mapping keys and list positions."""

MAX_DEPTH = 24
MAX_VALUES = 200_000
"""Scalars, lists and mappings, those behind aliases included each time."""
MAX_CHARACTERS = 2_000
"""Of one text."""
MAX_INTEGER = 2**63 - 1

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_CONSTANTS = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_DECIMAL = re.compile(r"[-+]?(0|[1-9][0-9_]*)")
_PREFIXED = re.compile(r"0x[0-9a-fA-F_]+|0o[0-7_]+|0b[01_]+")
_FLOAT = re.compile(r"[-+]?(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*|[0-9][0-9_]*(?=[eE]))(?:[eE][-+]?[0-9]+)?")
_NO_NUMBER = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_LONGEST_NUMBER = 400
"""Digits; no number that a study can mean has more."""


class YamlProblem(ValueError):
    """What is wrong, with the line (from 1) and the place of the value; both may be unknown."""

    def __init__(self, message: str, line: int | None = None, place: KeyPath = ()) -> None:
        super().__init__(message)
        self.line, self.place = line, place


class YamlSyntax(YamlProblem):
    """The text is no YAML at all; the message is the parser's."""


def read_yaml(text: str) -> tuple[Any, dict[KeyPath, int]]:
    """The value of the only document in `text` and the line of every place; `YamlProblem` otherwise.

    Values behind an alias have no line of their own: that of the alias is the nearest.
    """
    reader = _Reader(text)
    try:
        return reader.document(), reader.lines
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "it cannot be parsed"
        line = mark.line + 1 if mark is not None else None
        raise YamlSyntax(problem, line) from error


def write_yaml(value: Any) -> str:
    """Plain data as text that `read_yaml` reads as the same: texts that look like numbers to it are quoted."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=116)


class _Dumper(yaml.SafeDumper):
    """PyYAML's own quotes what YAML 1.1 takes for something else than a text."""

    def represent_text(self, text: str) -> yaml.ScalarNode:
        is_other = text in _CONSTANTS or any(form.fullmatch(text) for form in (_DECIMAL, _PREFIXED, _FLOAT, _NO_NUMBER))
        return self.represent_scalar("tag:yaml.org,2002:str", text, style="'" if is_other else None)


_Dumper.add_representer(str, _Dumper.represent_text)


class _Reader:
    """Builds data straight from the parser's events, so that bounds hold before anything large exists."""

    def __init__(self, text: str) -> None:
        self._events: Iterator[yaml.Event] = yaml.parse(text, Loader=_LOADER)
        self._anchors: dict[str, tuple[Any, int]] = {}
        self._open_anchors: set[str] = set()
        self._num_values = 0
        self.lines: dict[KeyPath, int] = {}

    def document(self) -> Any:
        event = next(self._events)
        while isinstance(event, yaml.StreamStartEvent | yaml.DocumentStartEvent):
            event = next(self._events)
        if isinstance(event, yaml.StreamEndEvent):
            return None
        value = self._value(event, ())
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                raise YamlProblem("a second document begins here ('---'); keep one", _line(event))
        return value

    def _value(self, event: yaml.Event, place: KeyPath) -> Any:
        self.lines.setdefault(place, _line(event))
        if len(place) > MAX_DEPTH:
            raise YamlProblem(f"nested more than {MAX_DEPTH} deep; write it flatter", _line(event), place[:3])
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event, place)
        self._count(1, event, place)
        if getattr(event, "tag", None) is not None:
            raise YamlProblem("tags such as !!int are not read; write the plain value", _line(event), place)
        anchor = getattr(event, "anchor", None)
        before = self._num_values
        if anchor is not None:
            self._open_anchors.add(anchor)
        value: Any
        if isinstance(event, yaml.MappingStartEvent):
            value = self._mapping(place)
        elif isinstance(event, yaml.SequenceStartEvent):
            value = self._sequence(place)
        else:
            assert isinstance(event, yaml.ScalarEvent), event
            value = _scalar(event, place)
        if anchor is not None:
            self._open_anchors.discard(anchor)
            self._anchors[anchor] = (value, 1 + self._num_values - before)
        return value

    def _alias(self, event: yaml.AliasEvent, place: KeyPath) -> Any:
        name = event.anchor
        if name in self._open_anchors:
            raise YamlProblem(f"*{name} is inside the value that it names; take it out", _line(event), place)
        if name not in self._anchors:
            raise YamlProblem(f"*{name} names no value above it; write &{name} there", _line(event), place)
        value, size = self._anchors[name]
        self._count(size, event, place)
        if len(place) + _depth(value) > MAX_DEPTH:
            raise YamlProblem(f"nested more than {MAX_DEPTH} deep; write it flatter", _line(event), place[:3])
        return copy.deepcopy(value)

    def _count(self, number: int, event: yaml.Event, place: KeyPath) -> None:
        self._num_values += number
        if self._num_values > MAX_VALUES:
            raise YamlProblem(f"more than {MAX_VALUES:,} values, aliases written out", _line(event), place[:1])

    def _sequence(self, place: KeyPath) -> list[Any]:
        items: list[Any] = []
        for position in itertools.count():
            event = next(self._events)
            if isinstance(event, yaml.SequenceEndEvent):
                break
            items.append(self._value(event, (*place, position)))
        return items

    def _mapping(self, place: KeyPath) -> dict[str, Any]:
        own: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            key = _key(event, place)
            at = (*place, key)
            if key in own:
                raise YamlProblem("written twice in one mapping; remove one of the two", _line(event), at)
            self.lines[at] = _line(event)
            value = self._value(next(self._events), at)
            if key == "<<":
                for part in reversed(value if isinstance(value, list) else [value]):
                    if not isinstance(part, dict):
                        raise YamlProblem("merges mappings only, as in '<<: *defaults'", _line(event), at)
                    merged |= part
            else:
                own[key] = value
        return {**{key: value for key, value in merged.items() if key not in own}, **own}


def _key(event: yaml.Event, place: KeyPath) -> str:
    if not isinstance(event, yaml.ScalarEvent) or event.tag is not None:
        raise YamlProblem("a key here is not a text; write a name before the colon", _line(event), place)
    key = _scalar(event, place)
    if not isinstance(key, str):
        raise YamlProblem(f"the key {event.value[:40]!r} reads as {key!r}; quote it", _line(event), place)
    if len(key) > 200:
        raise YamlProblem(f"a key of {len(key)} characters; at most 200", _line(event), place)
    return key


def _scalar(event: yaml.ScalarEvent, place: KeyPath) -> Any:
    text = event.value
    if event.style in (None, ""):
        if text in _CONSTANTS:
            return _CONSTANTS[text]
        if _DECIMAL.fullmatch(text) or _PREFIXED.fullmatch(text):
            return _integer(event, text, place)
        if _FLOAT.fullmatch(text) or _NO_NUMBER.fullmatch(text):
            return _real(event, text, place)
    if len(text) > MAX_CHARACTERS:
        raise YamlProblem(f"a text of {len(text):,} characters; at most {MAX_CHARACTERS:,}", _line(event), place)
    wrong = next((character for character in text if character < " " and character not in "\n\t"), "")
    if wrong:
        raise YamlProblem(f"the text holds the control character {wrong!r}; remove it", _line(event), place)
    return text


def _integer(event: yaml.Event, text: str, place: KeyPath) -> int:
    _check_length(event, text, place)
    digits = text.replace("_", "")
    value = int(digits, 0 if digits[1:2] in ("x", "o", "b") else 10)
    if abs(value) > MAX_INTEGER:
        raise YamlProblem(f"{text[:30]}: beyond 2^63 - 1, the largest whole number", _line(event), place)
    return value


def _real(event: yaml.Event, text: str, place: KeyPath) -> float:
    _check_length(event, text, place)
    value = math.nan if _NO_NUMBER.fullmatch(text) else float(text.replace("_", ""))
    if not math.isfinite(value):
        raise YamlProblem(f"{text}: it must be finite, so at most about 1.8e308", _line(event), place)
    return value


def _check_length(event: yaml.Event, text: str, place: KeyPath) -> None:
    if len(text) > _LONGEST_NUMBER:
        raise YamlProblem(f"a number of {len(text):,} characters; write it shorter", _line(event), place)


def _depth(value: Any) -> int:
    if not isinstance(value, dict | list):
        return 0
    return 1 + max(map(_depth, value.values() if isinstance(value, dict) else value), default=0)


def _line(event: yaml.Event) -> int:
    assert event.start_mark is not None
    return event.start_mark.line + 1
