"""CSV tables in and out: a spreadsheet that opens them runs no formula, and reading undoes what writing did.

A text that starts with = + - @ is a formula to a spreadsheet. Such cells and headings get an apostrophe in front, by
which spreadsheets know text; numbers, intervals and dashes stay as they are.
"""

import csv
import re
from collections import Counter
from pathlib import Path

import pandas as pd

from scaling.errors import UserError, printable
from scaling.readable import defused

_DECIMAL_COMMA = re.compile(r"\s*[+-]?\d+,\d+(?:[eE][+-]?\d+)?\s*")
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}")
_TEXTS = ("model", "study", "run_id", "data", "data_digest")
"""Columns of names, of which 01 is another than 1."""
_QUOTED = re.compile(r"'(?=[=+\-@\t\r])")


def read_table(path: Path) -> pd.DataFrame:
    """A CSV file with a header line, in UTF-8 with or without a byte-order mark. Cells are separated by commas, or by
    the semicolons (then with decimal commas, too) or tabs that the header has and no comma; UserError for a heading
    that is there twice."""
    try:
        head = _header(path)
        separator = next((mark for mark in ";\t" if mark in head and "," not in head), ",")
        _refuse_longer_rows(path, separator)
        table = pd.read_csv(path, encoding="utf-8-sig", sep=separator, dtype=dict.fromkeys(_TEXTS, str))
    except UserError:
        raise
    except (OSError, ValueError) as error:
        reason = "it is not UTF-8" if isinstance(error, UnicodeError) else str(error).strip()
        raise UserError(f"{path}: cannot be read as CSV ({reason}); give a table with a header line") from error
    names = [name.strip() for name in next(csv.reader([head], delimiter=separator), [])]
    for name, count in Counter(filter(None, names)).items():
        if count > 1:
            raise UserError(f"{path}: the column {name!r} is there {count} times; rename all but one")
    if len(names) == len(table.columns):
        table.columns = [name or old for name, old in zip(names, table.columns, strict=True)]
    if separator == ";":
        table = table.map(_with_decimal_point)
    table.columns = [_QUOTED.sub("", str(name), count=1) for name in table.columns]
    for name in table.columns[[pd.api.types.is_string_dtype(kind) for kind in table.dtypes]]:
        table[name] = table[name].str.replace(_QUOTED, "", regex=True, n=1)
        bad = table[name][table[name].map(lambda cell: isinstance(cell, str) and cell != printable(cell))]
        if len(bad):
            raise UserError(
                f"{path}: row {bad.index[0] + 1}, {name}: {bad.iloc[0][:80]} holds a control character; remove it"
            )
    for name in table.columns:
        if name != printable(name):
            raise UserError(f"{path}: the heading {name[:80]} holds a control character; remove it")
    return table


def _header(path: Path) -> str:
    with path.open(encoding="utf-8-sig", newline="") as stream:
        return stream.readline(1_000_000).rstrip("\r\n")


def _refuse_longer_rows(path: Path, separator: str) -> None:
    """UserError for a row with more cells than the header has: its cells would stand under other headings."""
    with path.open(encoding="utf-8-sig", newline="") as stream:
        rows = csv.reader(stream, delimiter=separator)
        try:
            width = len(next(rows, []))
            for row in rows:
                if len(row) > width:
                    raise UserError(
                        f"{path}:{rows.line_num}: the row has {len(row)} cells, but the header {width} columns; quote "
                        "a cell that holds the separator, or name the column"
                    )
        except csv.Error as error:
            raise ValueError(f"line {rows.line_num}: {error}") from error


def _with_decimal_point(cell: object) -> object:
    """`63,2` as spreadsheets of many countries write it; anything else as it is: `1,000` may be a thousand."""
    if isinstance(cell, str) and _DECIMAL_COMMA.fullmatch(cell) and not _THOUSANDS.fullmatch(cell.strip()):
        return float(cell.replace(",", "."))
    return cell


def save_csv(table: pd.DataFrame, path: Path) -> Path:
    """Write with Unix line ends and full float precision, formulas defused."""
    harmless = table.rename(columns=lambda name: defused(str(name)))
    for position, kind in enumerate(table.dtypes):
        if not pd.api.types.is_numeric_dtype(kind) and not pd.api.types.is_bool_dtype(kind):
            values = table.iloc[:, position]
            if values.map(lambda value: isinstance(value, str) and value != defused(value)).any():
                text = values.map(lambda value: defused(value) if isinstance(value, str) else value)
                harmless = harmless.assign(**{str(harmless.columns[position]): text})
    harmless.to_csv(path, index=False, lineterminator="\n")
    return path
