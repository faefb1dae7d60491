"""A CSV table to curves: the rows of each curve to fit, the rows held out, and what cannot be used.

A row without a positive, finite size and error has no place on a log-log curve: it is left out and said so, never in
silence. A fit column holds 1 and 0 and nothing else.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.runs.metrics import Metric
from analysis.runs.tables.csv_text import read_table
from scaling.errors import UserError, did_you_mean

_SMALLEST, _LARGEST = 1e-100, 1e100
"""Sizes and errors beyond are no measurements, and their powers are no numbers."""

RISING = 0.5
"""Rank correlation of size and error above which a curve rises."""


@dataclass(frozen=True, slots=True)
class Curve:
    """One curve, each part sorted by size."""

    label: dict[str, str]
    """Value of each column that tells curves apart."""
    x: NDArray[np.float64]
    """[N] sizes to fit."""
    y: NDArray[np.float64]
    """[N] errors to fit."""
    held_x: NDArray[np.float64]
    """[M] sizes to predict and score."""
    held_y: NDArray[np.float64]
    left_out: tuple[str, ...]
    """One sentence per row that cannot be used."""

    @property
    def name(self) -> str:
        return ", ".join(f"{key} {value}" for key, value in self.label.items()) or "table"

    @property
    def is_rising(self) -> bool:
        """Whether the errors to fit clearly grow with the size, as no law here does."""
        if len(np.unique(self.x)) < 3:
            return False
        ranks = pd.DataFrame({"x": self.x, "y": self.y}).rank()
        return bool(ranks["x"].corr(ranks["y"]) > RISING)


def read_curves(path: Path, x: str, y: Metric, by: Sequence[str] = (), fit_column: str | None = None) -> list[Curve]:
    """The curves of the table, sorted by label; the error is the distance of column `y` to its best value. UserError
    names the column and line that cannot be used."""
    table = read_table(path)
    for name in [x, y.name, *by, *([fit_column] if fit_column else [])]:
        if name not in table:
            raise UserError(f"{path}: no column {name!r}; {did_you_mean(name, table.columns)}")
    if x == y.name:
        raise UserError(f"--x and --y are both {x!r}; name the column of sizes and that of errors")
    if table.empty:
        raise UserError(f"{path}: the table has no rows; give one row per run")
    for name in (x, y.name):
        if pd.to_numeric(table[name], errors="coerce").isna().all():
            raise UserError(f"{path}: column {name!r} holds text or nothing; choose a column of numbers")
        has_digit = table[name].astype(str).str.contains(r"\d", regex=True)
        words = table.index[pd.to_numeric(table[name], errors="coerce").isna() & has_digit]
        if len(words):
            raise UserError(
                f"{path}:{words[0] + 2}: {name} is {table[name][words[0]]!r}, which is no number; write 1000 and 0.5, "
                "without separators of thousands, units or percent signs"
            )
    if y.higher_is_better:
        table[y.name] = _errors(path, table[y.name], y)
    held = ~_chosen(path, table, fit_column) if fit_column else pd.Series(False, index=table.index)
    groups = table.groupby(list(by), sort=True, dropna=False) if by else [((), table)]
    return [_curve(dict(zip(by, map(str, label), strict=True)), rows, x, y.name, held) for label, rows in groups]


def _errors(path: Path, column: pd.Series, metric: Metric) -> pd.Series:
    """Distances to the best value of a metric whose higher values are better; what is no number stays as it is."""
    if metric.no_law_because:
        raise UserError(f"{path}: {metric.no_law_because}")
    values = pd.to_numeric(column, errors="coerce")
    outside = column.index[metric.outside(values)]
    if len(outside):
        raise UserError(
            f"{path}:{outside[0] + 2}: {metric.name} is {column[outside[0]]}, outside {metric.low:g} to "
            f"{metric.high:g}; mend the row, or say --bounds LOW HIGH"
        )
    return column.where(values.isna(), metric.high - values)


def _curve(label: dict[str, str], rows: pd.DataFrame, x: str, y: str, held: "pd.Series[bool]") -> Curve:
    numbers = rows[[x, y]].apply(pd.to_numeric, errors="coerce")
    usable = ((numbers >= _SMALLEST) & (numbers <= _LARGEST)).all(axis=1)
    left_out = []
    for index in rows.index[~usable]:
        column = x if not _SMALLEST <= numbers.loc[index, x] <= _LARGEST else y
        value = rows.loc[index, column]
        is_far = 0 < numbers.loc[index, column] < np.inf
        rule = f"not from {_SMALLEST:g} to {_LARGEST:g}" if is_far else "not a positive number"
        left_out.append(f"line {index + 2}: {column} is {value}, {rule}")
    ordered = numbers[usable].sort_values([x, y], kind="stable")
    away = held[ordered.index]
    fitted, kept_back = ordered[~away], ordered[away]
    return Curve(
        label=label,
        x=fitted[x].to_numpy(float),
        y=fitted[y].to_numpy(float),
        held_x=kept_back[x].to_numpy(float),
        held_y=kept_back[y].to_numpy(float),
        left_out=tuple(left_out),
    )


def _chosen(path: Path, table: pd.DataFrame, fit_column: str) -> "pd.Series[bool]":
    values = pd.to_numeric(table[fit_column], errors="coerce")
    wrong = table.index[~values.isin([0, 1])]
    if len(wrong):
        raise UserError(
            f"{path}:{wrong[0] + 2}: {fit_column} is {table.loc[wrong[0], fit_column]}; "
            "give 1 for rows to fit and 0 for rows to predict and score"
        )
    return values == 1
