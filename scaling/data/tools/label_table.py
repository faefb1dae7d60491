"""Labels of a whole source, collected row by row and then turned into classes.

Nothing is invented: a blank label, a number that is no class number, a word such as `nan` or a list written into one
cell is an error that names the row and a way out. Classes are the labels that occur, numbers in numerical order and
words in alphabetical order, unless a list of classes is given.
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scaling.data.format.class_names import ClassNames, clean_name, refuse_unprintable
from scaling.data.format.index import LabelForm
from scaling.data.format.labels import is_vector
from scaling.data.format.manifest import LabelType
from scaling.errors import UserError, did_you_mean

MAX_DISTINCT = 2_000_000
"""Different labels of a table; more are texts or measurements."""

NUMBER = re.compile(r"[+-]?\d{1,40}(\.\d{0,18})?([eE][+-]?\d{1,2})?")

MISSING_WORDS = frozenset({"nan", "none", "null", "na", "n/a", "<na>", "nat", "#n/a", "-nan"})
"""What programs write for a missing value, in lower case."""


@dataclass(frozen=True)
class ResolvedLabels:
    """How the labels of a source become class numbers."""

    classes: tuple[str, ...]
    label_type: LabelType
    numbers: Mapping[str, int]
    """Class number of each text that stands for a class."""
    is_vector: bool
    """Rows hold a 0 or 1 for every class."""
    class_counts: NDArray[np.int64]
    """Rows of each class."""
    num_unlabelled: int
    num_rows: int = 0
    num_several: int = 0
    """Rows with two or more different labels."""
    first_several: str = ""
    """The first of them."""

    def of(self, labels: Sequence[str]) -> list[int]:
        """Class numbers of a row, each once."""
        if self.is_vector:
            return [number for number, label in enumerate(labels) if float(label)]
        return list(dict.fromkeys(self.numbers[label] for label in labels))


class LabelTable:
    """Collects the labels of all rows of a source."""

    def __init__(self, told: LabelForm | None, given: ClassNames | None, describe_row: Callable[[int], str]) -> None:
        """`told` and `given` are --label-type and --classes; `describe_row` names a row in messages."""
        self._told, self._given, self._describe = told, given, describe_row
        self._num_rows = 0
        self._counts: Counter[str] = Counter()
        self._first_row: dict[str, int] = {}
        self._blank: list[int] = []
        self._num_blank = 0
        self._several: int | None = None
        self._num_several = 0
        self._vector_length: int | None = None
        """Of the rows so far when all of them look like 0/1 vectors of this length; 0 when not."""
        self._ones: Counter[int] = Counter()
        self._not_one_hot: int | None = None

    def add(self, row: int, labels: Sequence[str] | None) -> None:
        """The labels of a row; None, or nothing in a list, where the source has no label."""
        self._num_rows += 1
        if not labels:
            self._num_blank += 1
            if len(self._blank) < 3:
                self._blank.append(row)
            if self._vector_length is not None or self._told in ("one-hot", "multi-hot"):
                self._vector_length = 0
            return
        self._watch_vector(row, labels)
        if len(set(labels)) > 1:
            self._num_several += 1
            self._several = row if self._several is None else self._several
        for label in set(labels):
            self._counts[label] += 1
            if label not in self._first_row:
                self._first_row[label] = row
                if len(self._first_row) > MAX_DISTINCT:
                    raise UserError(
                        f"{self._describe(row)}: more than {MAX_DISTINCT:,} different labels; is the column one of "
                        "classes?"
                    )

    def _watch_vector(self, row: int, labels: Sequence[str]) -> None:
        if self._vector_length == 0:
            return
        values = [_as_bit(label) for label in labels]
        length = len(labels) if is_vector(values) else 0
        self._vector_length = length if self._vector_length in (None, length) else 0
        ones = [number for number, value in enumerate(values) if value == 1]
        self._ones.update(ones)
        if len(ones) != 1 and self._not_one_hot is None:
            self._not_one_hot = row

    def resolve(self) -> ResolvedLabels:
        """Classes and label type; UserError names the row that does not fit."""
        if self._num_rows == 0:
            raise UserError("the source lists no images (jpg, jpeg, png or webp); is it the right folder or table?")
        if self._told in ("one-hot", "multi-hot"):
            return self._resolve_vectors()
        if self._vector_length:
            raise UserError(
                f"every row has {self._vector_length} labels, all of them 0 or 1: vectors, or lists of the classes 0 "
                "and 1? say --label-type multi-hot (or one-hot, for one class per image), or write lists of classes"
            )
        label_type = self._label_type()
        if not self._counts:
            raise UserError("no row has a label; is it the right table and column?")
        classes, numbers = self._given_classes() if self._given else self._found_classes()
        counts = np.zeros(len(classes), dtype=np.int64)
        for label, count in self._counts.items():
            counts[numbers[label]] += count
        first = "" if self._several is None else self._describe(self._several)
        return ResolvedLabels(
            classes, label_type, numbers, False, counts, self._num_blank, self._num_rows, self._num_several, first
        )

    def _resolve_vectors(self) -> ResolvedLabels:
        if not self._vector_length:
            raise UserError(f"--label-type {self._told}: not every row is a list of 0 and 1 of one length")
        if self._told == "one-hot" and self._not_one_hot is not None:
            raise UserError(
                f"{self._describe(self._not_one_hot)}: --label-type one-hot, but its vector has not exactly one 1; "
                "repair it or say multi-hot"
            )
        length = self._vector_length
        names = self._given.names if self._given else tuple(map(str, range(length)))
        if len(names) != length:
            raise UserError(f"--classes names {len(names)} classes, but the vectors have {length} values")
        counts = np.array([self._ones[number] for number in range(length)], dtype=np.int64)
        return ResolvedLabels(names, "single" if self._told == "one-hot" else "multi", {}, True, counts, 0)

    def _label_type(self) -> LabelType:
        if self._told == "single" and self._several is not None:
            raise UserError(
                f"{self._describe(self._several)} has several labels, but --label-type single was given; leave it out"
            )
        if self._num_blank and self._told != "multi" and self._several is None:
            more = f" ({self._num_blank:,} in all)" if self._num_blank > 1 else ""
            raise UserError(
                f"{self._describe(self._blank[0])} has no label{more}; fill it in, take the row out, or say "
                "--label-type multi if an image may have none"
            )
        return "multi" if self._told == "multi" or self._several is not None else "single"

    def _given_classes(self) -> tuple[tuple[str, ...], dict[str, int]]:
        """The classes that --classes names; labels are their names, or what the file says stands for them."""
        assert self._given is not None
        names = self._given.names
        by_name = {name: number for number, name in enumerate(names)}
        by_value = {value: number for number, value in enumerate(self._given.values or range(len(names)))}
        numbers = {}
        for label, row in self._first_row.items():
            number = by_name.get(label, by_name.get(clean_name(label)))
            if number is None and (value := _as_integer(label)) is not None:
                number = by_value.get(value)
            if number is None:
                raise UserError(
                    f"{self._describe(row)}: --classes does not name the class {label!r}; {did_you_mean(label, names)}"
                )
            numbers[label] = number
        return names, numbers

    def _found_classes(self) -> tuple[tuple[str, ...], dict[str, int]]:
        """The classes are the labels that occur."""
        numeric = [label for label in self._first_row if NUMBER.fullmatch(label)]
        for label, row in self._first_row.items():
            self._refuse_invented(label, row, among_numbers=len(numeric) > len(self._first_row) // 2)
        if len(numeric) < len(self._first_row):
            names = sorted({clean_name(label) for label in self._first_row})
            order = {name: number for number, name in enumerate(names)}
            return tuple(names), {label: order[clean_name(label)] for label in self._first_row}
        return self._numeric_classes()

    def _numeric_classes(self) -> tuple[tuple[str, ...], dict[str, int]]:
        by_value: dict[int, str] = {}
        values: dict[str, int] = {}
        for label, row in self._first_row.items():
            value = _as_integer(label)
            if value is None or value < 0:
                raise UserError(
                    f"{self._describe(row)}: the label {label!r} is no class number; numbers count from 0, and other "
                    "classes are named with --classes FILE"
                )
            values[label] = value
            # 007 is a name that looks like a number; 7.0 is a number that a program wrote as it writes numbers.
            name = label if label.isdigit() else str(value)
            if by_value.setdefault(value, name) != name:
                raise UserError(
                    f"{self._describe(row)}: the labels {by_value[value]!r} and {name!r} are one number; write it in "
                    "one way, or name the classes with --classes FILE"
                )
        order = {value: number for number, value in enumerate(sorted(by_value))}
        return tuple(by_value[value] for value in order), {label: order[value] for label, value in values.items()}

    def _refuse_invented(self, label: str, row: int, among_numbers: bool) -> None:
        where = self._describe(row)
        refuse_unprintable(clean_name(label), where)
        if label.lower() in MISSING_WORDS:
            raise UserError(
                f"{where}: the label {label!r} is what programs write for a missing value; fill it in, take the row "
                "out, or name it in --classes FILE if it is a class"
            )
        if label[:1] in "[{(" and label[-1:] in "]})":
            raise UserError(
                f"{where}: the label {label[:60]!r} is a list in one cell; separate labels by |, or name it in "
                "--classes FILE if it is a class"
            )
        if among_numbers and not NUMBER.fullmatch(label):
            raise UserError(
                f"{where}: the label {label[:60]!r} is a word among numbers; repair it, or name all classes in "
                "--classes FILE"
            )


def _as_integer(label: str) -> int | None:
    """The integer that a label is, also when it is written as 7.0 or 7e0."""
    if not NUMBER.fullmatch(label):
        return None
    if label.lstrip("+-").isdigit():
        return int(label)
    value = float(label)
    if not value.is_integer() or abs(value) >= 2**53:
        return None
    return int(value)


def _as_bit(label: str) -> Any:
    try:
        return float(label)
    except ValueError:
        return label


def as_text(value: Any) -> str | None:
    """A label of a table's cell as text; None for a missing one."""
    if value is None or (isinstance(value, float) and value != value):
        return None
    if isinstance(value, bytes):
        value = value.decode("utf-8", "surrogateescape")
    text = str(value).strip()
    return text or None
