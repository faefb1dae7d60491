"""A table of finished runs, logged anywhere, as records.

The columns are those of `runs.csv` in a report. `model` and `num_images` are needed; `run_id` (made from the row),
`study` and `fraction` (share of the largest size) are filled in; costs, device and settings are used where they are
given. Without a column `seed` every row is a seed of its own, so that no two models are compared as pairs. Every column
with a slash in its name, and the one named by --metric, is a metric; accuracies are fractions.
"""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from analysis.runs.conditions import BUDGETS, SERIES_SETTINGS
from analysis.runs.load import EXCLUDED_COLUMNS, Records, assemble
from analysis.runs.metrics import known_metric
from analysis.runs.naming import parse_model_name
from scaling.errors import UserError, did_you_mean

NEEDED = ("model", "num_images")
_NUMBERS = ("flops", "device_hours", "images_per_second", "epochs", "steps", "batch", "num_params", "fraction")
_BLANKS = {"device": "unknown device", "precision": "unknown precision", "num_devices": 1}
"""What stands for a cell that is empty, or for a column that is not there."""


def records_from_csv(paths: Sequence[Path], metric: str | None) -> Records:
    """Read the tables; UserError names the file, line and column that cannot be used."""
    if metric in SERIES_SETTINGS:
        raise UserError(f"--metric {metric}: this is the name of a setting; call the column upstream/{metric}, say")
    runs = pd.concat([_read(path, metric) for path in sorted(paths)], ignore_index=True)
    if "seed" not in runs:
        runs["seed"] = range(len(runs))
    twins = runs[runs["run_id"].duplicated()]
    if len(twins):
        raise UserError(f"{paths[0]}: run_id {twins['run_id'].iloc[0]!r} occurs twice; give every run its own run_id")
    models = {
        name: parse_model_name(name, str(rows["family"].iloc[0]), _first_number(rows))
        for name, rows in runs.groupby("model", sort=True)
    }
    return assemble(runs, pd.DataFrame(columns=EXCLUDED_COLUMNS), models, {}, {})


def _read(path: Path, metric: str | None) -> pd.DataFrame:
    try:
        table = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as CSV ({error}); give a table with a header line") from error
    for name in NEEDED:
        if name not in table:
            raise UserError(f"{path}: no column {name!r}; {did_you_mean(name, table.columns)}")
    if table.empty:
        raise UserError(f"{path}: the table has no rows; give one row per finished run")
    _check(path, table, "model", table["model"].notna(), "give every row a model")
    table["model"] = table["model"].astype(str)
    images = pd.to_numeric(table["num_images"], errors="coerce")
    _check(path, table, "num_images", images > 0, "give the number of training images, above 0")
    table["num_images"] = images
    if "seed" in table:
        seeds = pd.to_numeric(table["seed"], errors="coerce")
        _check(path, table, "seed", seeds % 1 == 0, "give a whole number, or leave out the column")
        table["seed"] = seeds.astype(int)
    for name in (name for name in _NUMBERS if name in table):
        numbers = pd.to_numeric(table[name], errors="coerce")
        _check(path, table, name, numbers.notna() | table[name].isna(), "give a number or nothing")
        table[name] = numbers
    for name in [name for name in table if "/" in str(name) or name == metric]:
        table[name] = pd.to_numeric(table[name], errors="coerce")
        if known_metric(str(name)).is_percent:
            _check(path, table, str(name), ~(table[name] > 1), "give accuracies as fractions, from 0 to 1")
    _check_protocol(path, table)
    given = set(table.columns)
    defaults: dict[str, object] = {
        "study": path.stem,
        "family": table["model"].str.split("-").str[0].str.lower(),
        "fraction": images / images.max(),
        "run_id": [f"{path.name}:{line + 2}" for line in range(len(table))],
    }
    for name, value in defaults.items():
        if name not in given:
            table[name] = value
    for name, blank in _BLANKS.items():
        table[name] = table[name].fillna(blank) if name in given else blank
    return table.drop(columns=["condition"], errors="ignore")


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


def _first_number(rows: pd.DataFrame) -> float | None:
    if "num_params" not in rows or rows["num_params"].isna().all():
        return None
    return float(rows["num_params"].dropna().iloc[0])
