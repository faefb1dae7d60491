"""How the label of a sample in a shard becomes class numbers.

`.cls` holds one integer; `.json` holds a list of integers, `{"labels": […]}` or `{"label": n}`. Unless a manifest says
otherwise these are class numbers that count from 0. Two other forms are read when a manifest names them: integers that
are identifiers of classes (`values`), and vectors with a 0 or 1 for every class (`vectors`).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from scaling.plain_json import read_json

MAX_LABELS = 10_000
"""Labels of one sample; more is not a label list."""

MAX_VECTOR = 1_000_000
"""Classes of a 0/1 vector."""

MAX_CLASSES = 10_000_000
"""Classes of a data set."""

MAX_VALUE = 2**53
"""Identifiers above are not exact in every JSON reader."""

INTEGER = re.compile(rb"\s*-?[0-9]{1,18}\s*")


@dataclass(frozen=True)
class LabelRule:
    """From the values that stand in a shard to class numbers."""

    vectors: bool = False
    """Labels are lists of 0 and 1, one for every class."""
    values: tuple[int, ...] = field(default=())
    """The identifier that stands for class 0, 1, …; empty where labels are class numbers."""

    def class_numbers(self, labels: list[Any]) -> list[int]:
        """Class numbers of one sample, each once; ValueError says what is wrong with its label."""
        if self.vectors:
            if any(type(label) not in (int, float, bool) or label not in (0, 1) for label in labels):
                raise ValueError("a vector of labels holds 0 and 1 only")
            return [number for number, label in enumerate(labels) if label]
        if len(labels) > MAX_LABELS:
            raise ValueError(f"{len(labels):,} labels are above the limit of {MAX_LABELS:,}")
        for label in labels:
            if type(label) is not int or label >= MAX_VALUE:
                raise ValueError(f"{str(label)[:40]!r} is no integer below {MAX_VALUE:,}")
        if len(labels) > 1:
            labels = list(dict.fromkeys(labels))
        if not self.values:
            return labels
        try:
            return [self._numbers[label] for label in labels]
        except KeyError as error:
            raise ValueError(f"the label {error} is not among those that --classes named") from error

    @cached_property
    def _numbers(self) -> dict[int, int]:
        return {value: number for number, value in enumerate(self.values)}

    def to_json(self) -> dict[str, Any]:
        """What a manifest says about the rule; empty for class numbers."""
        if self.vectors:
            return {"form": "vectors"}
        return {"form": "values", "values": list(self.values)} if self.values else {}

    @classmethod
    def from_json(cls, body: Mapping[str, Any], num_classes: int) -> "LabelRule":
        """The rule of a manifest's `labels`; ValueError when it is none."""
        if not body:
            return CLASS_NUMBERS
        if body == {"form": "vectors"}:
            return cls(vectors=True)
        values = body.get("values")
        if body.get("form") != "values" or not isinstance(values, list) or set(body) != {"form", "values"}:
            raise ValueError("names no rule for labels that this version knows")
        check_values(values)
        if len(values) != num_classes:
            raise ValueError(f"names {len(values)} identifiers for {num_classes} classes")
        return cls(values=tuple(values))


CLASS_NUMBERS = LabelRule()
"""Labels are class numbers."""


def check_values(values: Sequence[Any]) -> None:
    """ValueError unless these can be identifiers of classes: different integers from 0 to MAX_VALUE."""
    if any(type(value) is not int or not 0 <= value < MAX_VALUE for value in values):
        raise ValueError(f"holds an identifier that is no integer from 0 to {MAX_VALUE:,}")
    if len(set(values)) != len(values):
        raise ValueError("gives two classes the same identifier")


def parse_cls(raw: bytes) -> list[int]:
    """The integer of a `.cls`; ValueError when it is none."""
    if not INTEGER.fullmatch(raw):
        text = raw[:40].decode("utf-8", "backslashreplace")
        raise ValueError(f"{text!r} is no integer")
    return [int(raw)]


def parse_json(raw: bytes) -> list[Any]:
    """The values of a `.json` label; ValueError says what is wrong."""
    value = read_json(raw)
    if isinstance(value, dict):
        if "labels" not in value and "label" not in value:
            raise ValueError("it has neither 'labels' nor 'label'")
        if "labels" in value and "label" in value and value["labels"] not in (value["label"], [value["label"]]):
            raise ValueError("its 'labels' and its 'label' differ; keep one of the two")
        value = value["labels"] if "labels" in value else value["label"]
    labels = value if isinstance(value, list) else [value]
    if len(labels) > MAX_VECTOR:
        raise ValueError(f"it has {len(labels):,} labels, above the limit of {MAX_VECTOR:,}")
    return labels


def is_vector(labels: Sequence[Any]) -> bool:
    """Whether labels look like a 0/1 vector: at least two values, all of them 0 or 1."""
    return len(labels) > 1 and all(type(label) in (int, float, bool) and label in (0, 1) for label in labels)
