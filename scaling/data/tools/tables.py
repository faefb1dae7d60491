"""Rows of paths and labels, from CSV and Parquet files as people and programs write them."""

import csv
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from scaling.data.format.class_names import encoding_error, text_encoding
from scaling.data.tools.label_table import NUMBER, as_text
from scaling.errors import UserError, did_you_mean

PATH_COLUMN, LABELS_COLUMN = "path", "labels"

LABEL_SEPARATOR = "|"

SEPARATORS = (",", ";", "\t")
"""Between the columns of a CSV, the one under which the header has both columns."""

MAX_COMPARED_ROWS = 20_000_000
"""Images of a table that are remembered to find those that it names again."""

ROWS_AT_ONCE = 65_536


class Row(NamedTuple):
    number: int
    """As a person counts: lines of a CSV with its header, rows of a Parquet from 1."""
    path: str
    labels: list[str] | None
    """None for a blank cell."""


class RepeatedRows:
    """Rows that name the image of an earlier row: counted, and refused where the two disagree about its labels."""

    def __init__(self, path: Path) -> None:
        """Of the table `path`."""
        self._path, self._folder = path, path.parent.absolute()
        self._first, self.count = dict[str, Row](), 0

    def add(self, row: Row) -> None:
        """UserError when an earlier row gives the image other labels; rows after MAX_COMPARED_ROWS are not kept."""
        name = os.path.normpath(self._folder / row.path)
        earlier = self._first.get(name)
        if earlier is None:
            if len(self._first) < MAX_COMPARED_ROWS:
                self._first[name] = row
            return
        self.count += 1
        if sorted(earlier.labels or []) != sorted(row.labels or []):
            raise UserError(
                f"{self._path}, rows {earlier.number} and {row.number} give {row.path} the labels "
                f"{_told(earlier)} and {_told(row)}; take one out, or write all labels of an image into one row"
            )


def _told(row: Row) -> str:
    return LABEL_SEPARATOR.join(row.labels or []) or "(none)"


class ReadRows(Protocol):
    def __call__(self, path: Path) -> Iterator[Row]: ...


def read_csv_rows(path: Path) -> Iterator[Row]:
    """Rows of a CSV in UTF-8, or what its byte order mark says; several labels are in one cell, separated by `|`."""
    encoding = text_encoding(path)
    try:
        separator = _find_separator(path, encoding)
        with path.open(newline="", encoding=encoding) as stream:
            rows = csv.DictReader(stream, delimiter=separator, strict=True)
            rows.fieldnames = [name.strip() for name in rows.fieldnames or []]
            for cells in rows:
                yield _csv_row(path, rows.line_num, cells, has_decimal_commas=separator == ";")
    except UnicodeError as error:
        raise encoding_error(path, error) from error
    except csv.Error as error:
        raise UserError(
            f"{path} is not CSV ({error}); close every quotation mark, or save it again as CSV in UTF-8"
        ) from error


def _find_separator(path: Path, encoding: str) -> str:
    with path.open(newline="", encoding=encoding) as stream:
        # A quoted name can hold the separator, so the header is read as a row, under each of them.
        header = stream.readline(1_000_000)
    found: list[str] = []
    for separator in SEPARATORS:
        columns = [name.strip() for name in next(csv.reader([header], delimiter=separator), [])]
        if PATH_COLUMN in columns and LABELS_COLUMN in columns:
            check_columns(path, columns)
            return separator
        found = max(found, columns, key=len)
    check_columns(path, found)
    raise AssertionError(header)


def _csv_row(path: Path, number: int, cells: dict[str, Any], has_decimal_commas: bool) -> Row:
    if None in cells or None in cells.values():
        raise UserError(f"{path}, line {number} has not as many cells as the header has columns; repair it")
    name, cell = str(cells[PATH_COLUMN]).strip(), str(cells[LABELS_COLUMN])
    labels = [label.strip() for label in cell.split(LABEL_SEPARATOR)]
    if len(labels) > 1 and not all(labels):
        raise UserError(f"{path}, line {number}: {cell!r} has a blank between two {LABEL_SEPARATOR}; repair it")
    if has_decimal_commas:
        labels = [_with_decimal_point(label) for label in labels]
    return Row(number, _checked_path(path, number, name), labels if any(labels) else None)


def _with_decimal_point(label: str) -> str:
    """`3,0` of a table whose columns are separated by semicolons, as spreadsheets of many countries write it."""
    changed = label.replace(",", ".", 1)
    return changed if NUMBER.fullmatch(changed) else label


def read_parquet_rows(path: Path) -> Iterator[Row]:
    """Rows of a Parquet file; the labels' column holds a list, a name or a number."""
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.ParquetFile(path)
        check_columns(path, table.schema_arrow.names)
        number = 0
        for part in table.iter_batches(ROWS_AT_ONCE, columns=[PATH_COLUMN, LABELS_COLUMN]):
            for cells in part.to_pylist():
                number += 1
                name = as_text(cells[PATH_COLUMN]) or ""
                yield Row(number, _checked_path(path, number, name), _cell_labels(path, number, cells[LABELS_COLUMN]))
    except (pyarrow.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path} cannot be read as Parquet ({reason}); write it again") from error


def _cell_labels(path: Path, number: int, cell: Any) -> list[str] | None:
    if not isinstance(cell, list):
        text = as_text(cell)
        return None if text is None else [text]
    labels = [as_text(value) for value in cell]
    if None in labels:
        raise UserError(f"{path}, row {number}: its list of labels holds a missing value; repair it")
    return [label for label in labels if label is not None]


def _checked_path(path: Path, number: int, name: str) -> str:
    if not name or "\0" in name:
        raise UserError(f"{path}, row {number} names no file in the column {PATH_COLUMN!r}; fill it in or take it out")
    return name


def check_columns(path: Path, columns: Sequence[str]) -> None:
    """UserError when a column is missing."""
    if not columns:
        raise UserError(
            f"{path} has no header line with the columns {PATH_COLUMN!r} and {LABELS_COLUMN!r}; is it empty?"
        )
    repeated = [name for name in (PATH_COLUMN, LABELS_COLUMN) if list(columns).count(name) > 1]
    if repeated:
        raise UserError(f"{path} has {list(columns).count(repeated[0])} columns {repeated[0]!r}; rename all but one")
    missing = [name for name in (PATH_COLUMN, LABELS_COLUMN) if name not in columns]
    if missing:
        raise UserError(
            f"{path}: the column {missing[0]!r} is missing among {list(columns)[:20]}; add or rename it "
            f"({did_you_mean(missing[0], columns)})"
        )
