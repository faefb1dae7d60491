"""A table of finished runs, logged anywhere, as records.

The columns are those of `runs.csv` in a report. `model` and `num_images` are needed; `run_id` (made from the row),
`study` and `fraction` (share of the largest size) are filled in; costs, device and settings are used where they are
given. Without a column `seed` every row is a seed of its own, so that no two models are compared as pairs; rows that
are equal in all that is written, in one table or in two, are still one run. Every column
with a slash in its name, and the one named by --metric, is a metric; accuracies are fractions. A cell that is no
number of its column ends the reading with its line; an empty one is a missing value; a repeated row counts once.
"""

import unicodedata
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.runs.conditions import BUDGETS, SERIES_SETTINGS
from analysis.runs.load import EXCLUDED_COLUMNS, Records, assemble
from analysis.runs.metrics import Metric, known_metric
from analysis.runs.naming import parse_model_name
from analysis.runs.tables.csv_text import read_table
from scaling.errors import UserError, did_you_mean

NEEDED = ("model", "num_images")
_NUMBERS = ("flops", "device_hours", "images_per_second", "epochs", "steps", "batch", "num_params", "fraction")
_COSTS = ("flops", "device_hours", "images_per_second", "epochs", "steps", "batch", "num_params")
"""Columns of `_NUMBERS` that are above 0 where they are given."""
_COST_ENDS = (1e-30, 1e40)
_MOST_IMAGES = 1e18
_WRITTEN = "written "
"""Begins names of columns that keep what a table says where an empty cell is filled."""
_BLANKS = {"device": "unknown device", "precision": "unknown precision", "num_devices": 1}
"""What stands for a cell that is empty, or for a column that is not there."""


def records_from_csv(paths: Sequence[Path], metric: str | None, declared: Metric | None = None) -> Records:
    """Read the tables; UserError names the file, line and column that cannot be used. `declared` is what the user
    says about one metric."""
    if metric in SERIES_SETTINGS:
        raise UserError(f"--metric {metric}: this is the name of a setting; call the column upstream/{metric}, say")
    known = {declared.name: declared} if declared else {}
    files = {path.resolve(): path for path in sorted(paths, reverse=True)}
    runs = pd.concat([_read(path, metric, known) for path in sorted(files.values())], ignore_index=True)
    has_seeds = "seed" in runs
    if not has_seeds:
        runs["seed"] = range(len(runs))
    elif runs["seed"].isna().any():
        raise UserError(f"{paths[0]}: only some tables have a column 'seed'; give it in all tables or in none")
    _refuse_alike(paths[0], sorted(set(runs["model"])))
    twins = runs[runs["run_id"].duplicated()]
    if len(twins):
        raise UserError(f"{paths[0]}: run_id {twins['run_id'].iloc[0]!r} occurs twice; give every run its own run_id")
    models = {
        str(name): parse_model_name(str(name), str(rows["family"].iloc[0]), _first_number(rows))
        for name, rows in runs.groupby("model", sort=True)
    }
    runs, repeated = _without_repeats(runs, has_seeds)
    return assemble(runs, repeated, models, {}, {}, declared=known)


def _read(path: Path, metric: str | None, known: dict[str, Metric]) -> pd.DataFrame:
    table = read_table(path)
    for name in NEEDED:
        if name not in table:
            raise UserError(f"{path}: no column {name!r}; {did_you_mean(name, table.columns)}")
    if table.empty:
        raise UserError(f"{path}: the table has no rows; give one row per finished run")
    _check(path, table, "model", table["model"].notna(), "give every row a model")
    table["model"] = [unicodedata.normalize("NFC", " ".join(str(name).split())) for name in table["model"]]
    _check(path, table, "model", table["model"] != "", "give every row a model")
    images = pd.to_numeric(table["num_images"], errors="coerce")
    rule = "give the number of training images, a whole number above 0 such as 30000"
    _check(path, table, "num_images", (images < _MOST_IMAGES) & (images > 0) & (images % 1 == 0), rule)
    table["num_images"] = images
    if "seed" in table:
        seeds = pd.to_numeric(table["seed"], errors="coerce")
        good = (seeds % 1 == 0) & (seeds.abs() < 2**53)
        _check(path, table, "seed", good, "give a whole number below 2^53, or leave out the column")
        table["seed"] = seeds.astype(int)
    for name in (name for name in _NUMBERS if name in table):
        _to_numbers(path, table, name, "give a number or nothing")
        if name in _COSTS:
            good = table[name].isna() | table[name].between(*_COST_ENDS)
            _check(path, table, name, good, "give a number above 0, from 1e-30 to 1e40, or nothing")
    for name in [str(name) for name in table if "/" in str(name) or name == metric]:
        measure = known.get(name) or known_metric(name)
        is_number = pd.to_numeric(table[name], errors="coerce").notna() & ~table[name].map(
            lambda cell: isinstance(cell, bool)
        )
        if not is_number.any() and measure.higher_is_better is None and name != metric:
            continue  # a column of words
        _to_numbers(path, table, name, _rule(measure))
        _check(path, table, name, ~measure.outside(table[name]), _rule(measure))
    if "fraction" in table:
        shares = table["fraction"].isna() | table["fraction"].between(0, 1, inclusive="right")
        _check(path, table, "fraction", shares, "give a share of the full set, above 0 and at most 1, or nothing")
    _check_protocol(path, table)
    return _filled(path, table, images)


def _filled(path: Path, table: pd.DataFrame, images: "pd.Series[float]") -> pd.DataFrame:
    """The table with every column that records need; an empty cell is filled like a column that is not there."""
    for name in ("run_id", "study"):
        table[f"{_WRITTEN}{name}"] = table[name].astype(str) if name in table else ""
    defaults: dict[str, pd.Series] = {
        "study": pd.Series(path.stem, index=table.index),
        "family": table["model"].str.split("-").str[0].str.lower(),
        "fraction": images / images.max(),
        "run_id": pd.Series([f"{path.name}:{line + 2}" for line in range(len(table))], index=table.index),
    }
    for name, values in defaults.items():
        table[name] = table[name].where(table[name].notna(), values) if name in table else values
    if "data_digest" in table and "data" not in table:
        table["data"] = table["data_digest"]
    for name, unknown in (("data", "unknown data"), ("data_digest", "unknown")):
        if name in table:
            table[name] = table[name].fillna(unknown).astype(str)
    for name in ("study", "family", "run_id"):
        table[name] = table[name].astype(str)
    for name, blank in _BLANKS.items():
        table[name] = table[name].fillna(blank) if name in table else blank
    return table.drop(columns=["condition"], errors="ignore")


def _refuse_alike(path: Path, models: Sequence[str]) -> None:
    """UserError for two names that a person takes for one model."""
    seen: dict[str, str] = {}
    for name in models:
        plain = "".join(unicodedata.normalize("NFKC", name).split()).casefold()
        other = seen.setdefault(plain, name)
        if other != name:
            raise UserError(f"{path}: the models {other!r} and {name!r} differ in case or spaces alone; write one name")


def _without_repeats(runs: pd.DataFrame, has_seeds: bool) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows that repeat another in everything but their run_id and study are left out; rows of one model, size and seed
    that differ in nothing but what was measured are refused: they are no independent runs. Without seeds, a run_id or
    study that is written in the table tells rows apart too."""
    written = [name for name in runs if name.startswith(_WRITTEN)]
    unsaid = ("run_id", "study", "fraction", *(written if has_seeds else ["seed"]))
    said = [name for name in runs if name not in unsaid]
    first = runs.groupby(said, dropna=False, sort=False)["run_id"].transform("first")
    runs = runs.drop(columns=written)
    repeated = runs[first != runs["run_id"]]
    excluded = repeated[["study", "run_id", "model", "fraction", "seed"]].copy()
    excluded["status"] = "duplicate"
    excluded["reason"] = "repeats " + first[repeated.index] + ", which is used"
    if not has_seeds:
        excluded["reason"] += "; add a column seed if these are two runs"
    kept = runs.drop(index=repeated.index).reset_index(drop=True)
    keys = [
        name for name in kept
        if name in ("study", "model", "num_images", "seed", "subset_seed", "data", "data_digest", "val_digest",
                    "protocol", "batch", "evals", "device", "precision", *SERIES_SETTINGS, *BUDGETS.values())
    ]  # fmt: skip
    twin = kept.groupby(keys, dropna=False, sort=False)["run_id"].transform("first")
    clash = kept[twin != kept["run_id"]]
    if len(clash):
        row = clash.iloc[0]
        raise UserError(
            f"{row['run_id']} has the model, num_images and seed of {twin[clash.index[0]]} ({row['model']}, "
            f"{row['num_images']:g}, {row['seed']}) and other values; give every run a seed of its own, or leave out "
            "the column seed"
        )
    return kept, excluded[EXCLUDED_COLUMNS]


def _to_numbers(path: Path, table: pd.DataFrame, name: str, rule: str) -> None:
    """Replace a column by its numbers; an empty cell stays empty, anything else that is no finite number is refused."""
    numbers = pd.to_numeric(table[name].mask(table[name].map(lambda cell: isinstance(cell, bool))), errors="coerce")
    good = (numbers.notna() | table[name].isna()) & ~np.isinf(numbers)
    _check(path, table, name, good, rule)
    table[name] = numbers


def _rule(measure: Metric) -> str:
    if measure.is_percent:
        return "give accuracies as fractions, from 0 to 1 (0.632 for 63.2 %), or nothing"
    if np.isfinite(measure.low) and np.isfinite(measure.high):
        return f"give a number from {measure.low:g} to {measure.high:g}, or nothing"
    return (
        f"give a number from {measure.low:g} on, or nothing" if np.isfinite(measure.low) else "give a number or nothing"
    )


def _check(path: Path, table: pd.DataFrame, name: str, good: "pd.Series[bool]", rule: str) -> None:
    wrong = table.index[~good]
    if len(wrong):
        raise UserError(f"{path}:{wrong[0] + 2}: {name} is {table[name].tolist()[wrong[0]]!r}; {rule}")


def _check_protocol(path: Path, table: pd.DataFrame) -> None:
    """A protocol needs the column of its budget, by which runs are kept apart."""
    if "protocol" not in table:
        return
    _check(
        path, table, "protocol", table["protocol"].isin(BUDGETS), f"give {', '.join(BUDGETS)}, or leave out the column"
    )
    for protocol in table["protocol"].unique():
        if BUDGETS[protocol] not in table:
            raise UserError(
                f"{path}: protocol {protocol} without column {BUDGETS[protocol]!r}; add it to tell budgets apart"
            )
        _check(
            path, table, BUDGETS[protocol], table[BUDGETS[protocol]].notna() | (table["protocol"] != protocol),
            f"protocol {protocol} needs it to tell budgets apart",
        )  # fmt: skip


def _first_number(rows: pd.DataFrame) -> float | None:
    if "num_params" not in rows or rows["num_params"].isna().all():
        return None
    return float(rows["num_params"].dropna().iloc[0])
