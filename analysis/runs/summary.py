"""Cells of a study: the mean of a metric over the runs of one model at one subset size, and their spread.

The unit that is averaged is a training run. The spread is printed as the sample standard deviation (n - 1) and drawn
as the range from the smallest to the largest run; one run has no spread, and none is made up for it.
"""

import math
from dataclasses import replace

import numpy as np
import pandas as pd

from analysis.runs.load import Records
from scaling.errors import UserError

CELL_COLUMNS = ["model", "fraction", "num_images", "num_runs", "mean", "sd", "min", "max", "run_ids"]


def cells(records: Records, metric: str) -> pd.DataFrame:
    """CELL_COLUMNS, one row per model and subset size, in the order of model names and sizes.

    Values keep the metric's stored unit; `sd` is NaN for a single run. Runs without the metric are left out here and
    listed by `runs_without`.
    """
    have = records.runs[records.runs[metric].notna()]
    rows = []
    every, fractions, run_ids = have[metric].to_numpy(float), have["fraction"].to_numpy(), have["run_id"].to_numpy()
    for (model, num_images), places in have.groupby(["model", "num_images"], sort=False).indices.items():
        values = every[places]
        rows.append(
            {
                "model": model,
                "fraction": fractions[places[0]],
                "num_images": num_images,
                "num_runs": len(places),
                "mean": values.mean(),
                "sd": values.std(ddof=1) if len(places) > 1 else math.nan,
                "min": values.min(),
                "max": values.max(),
                "run_ids": " ".join(run_ids[places]),
            }
        )
    table = pd.DataFrame(rows, columns=CELL_COLUMNS)
    order = sorted(table.index, key=lambda i: (records.models[table.model[i]], table.num_images[i]))
    return table.loc[order].reset_index(drop=True)


def without_impossible(records: Records, metric: str) -> tuple[Records, pd.DataFrame]:
    """The records with values that the metric cannot take (infinite, or outside its bounds) made missing, and the
    runs that had them in the columns of `Records.excluded`. UserError when no other value is left."""
    values, measure = records.runs[metric].astype(float), records.metric(metric)
    impossible = measure.outside(values) | np.isinf(values)
    if not impossible.any():
        return records, records.excluded.iloc[:0]
    table = records.runs.loc[impossible, ["study", "run_id", "model", "fraction", "seed"]].copy()
    table["status"] = "done"
    table["reason"] = [
        f"{metric} is {value:g}, outside {measure.low:g} to {measure.high:g}" for value in values[impossible]
    ]
    if (impossible | values.isna()).all():
        raise UserError(f"{table['run_id'].iloc[0]}: {table['reason'].iloc[0]}, and no run has another value")
    return replace(records, runs=records.runs.assign(**{metric: values.mask(impossible)})), table


def runs_without(records: Records, metric: str) -> pd.DataFrame:
    """Finished runs that did not measure `metric`, in the columns of `Records.excluded`."""
    lacking = records.runs[records.runs[metric].isna()]
    table = lacking[["study", "run_id", "model", "fraction", "seed"]].copy()
    table["status"] = "done"
    table["reason"] = f"has no value of {metric}"
    return table


def runs_behind(records: Records, metric: str, model: str, low: float, high: float) -> str:
    """Names of the runs of `model` with `low` to `high` images that measured the metric, one a line."""
    runs = records.runs[(records.runs["model"] == model) & records.runs[metric].notna()]
    return "\n".join(runs.loc[runs["num_images"].between(low, high), "run_id"])


def runs_of_cells(records: Records, metric: str) -> dict[tuple[str, float], str]:
    """`runs_behind` of every model and subset size at once."""
    runs = records.runs[records.runs[metric].notna()]
    return {
        (str(model), size): "\n".join(ids) for (model, size), ids in runs.groupby(["model", "num_images"])["run_id"]
    }
