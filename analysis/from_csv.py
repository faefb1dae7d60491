"""A table of finished runs, logged anywhere, as records.

The columns are those of `runs.csv` in a report. `model` and `num_images` are needed; `seed` (0), `run_id` (made from
the row), `study` and `fraction` (share of the largest size) are filled in; costs, device and settings are used where
they are given. Every column with a slash in its name, and the one named by --metric, is a metric.
"""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from analysis.load import EXCLUDED_COLUMNS, Records, assemble
from analysis.naming import parse_model_name
from scaling.errors import UserError, did_you_mean

NEEDED = ("model", "num_images")
_TEXT_DEFAULTS = {"device": "unknown device", "precision": "unknown precision"}


def records_from_csv(paths: Sequence[Path], metric: str | None) -> Records:
    """Read the tables; UserError names the file, line and column that cannot be used."""
    runs = pd.concat([_read(path) for path in sorted(paths)], ignore_index=True)
    if metric is not None and metric in runs and "/" not in metric:
        runs[metric] = pd.to_numeric(runs[metric], errors="coerce")
    twins = runs[runs["run_id"].duplicated()]
    if len(twins):
        raise UserError(f"{paths[0]}: run_id {twins['run_id'].iloc[0]!r} occurs twice; give every run its own run_id")
    models = {
        name: parse_model_name(name, str(rows["family"].iloc[0]), _first_number(rows))
        for name, rows in runs.groupby("model", sort=True)
    }
    return assemble(runs, pd.DataFrame(columns=EXCLUDED_COLUMNS), models, {}, {})


def _read(path: Path) -> pd.DataFrame:
    try:
        table = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as CSV ({error}); give a table with a header line") from error
    for name in NEEDED:
        if name not in table:
            raise UserError(f"{path}: no column {name!r}; {did_you_mean(name, table.columns)}")
    images = pd.to_numeric(table["num_images"], errors="coerce")
    wrong = images[~(images > 0)].index
    if len(wrong):
        value = table["num_images"][wrong[0]]
        raise UserError(f"{path}:{wrong[0] + 2}: num_images is {value!r}; give the number of training images, above 0")
    table["num_images"] = images
    table["model"] = table["model"].astype(str)
    given = set(table.columns)
    defaults: dict[str, object] = {
        "study": path.stem,
        "seed": 0,
        "family": table["model"].str.split("-").str[0].str.lower(),
        "fraction": images / images.max(),
        "num_devices": 1,
        "run_id": [f"{path.name}:{line + 2}" for line in range(len(table))],
        **_TEXT_DEFAULTS,
    }
    for name, value in defaults.items():
        if name not in given:
            table[name] = value
    return table.drop(columns=["condition"], errors="ignore")


def _first_number(rows: pd.DataFrame) -> float | None:
    if "num_params" not in rows or rows["num_params"].isna().all():
        return None
    return float(rows["num_params"].dropna().iloc[0])
