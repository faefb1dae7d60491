"""How fast the models of a study are: rows measured apart from training, else what its runs measured themselves.

Images per second mean something only beside others of the same `PLACE`: kind of work, device, precision, threads,
compilation and software. Rows of different places never share a figure, a table or a comparison.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from analysis.runs.load import Records
from analysis.runs.metrics import THROUGHPUT_METRIC
from scaling.errors import UserError
from scaling.records.scores.throughput import ThroughputRow, read_rows

PLACE = ["work", "device", "precision", "num_devices", "threads", "compile_mode", "software"]
"""Columns that rates must share to be compared."""

TRAINING_RATE = "images_per_second"
"""Of a run's result: what stands in when nothing else was measured."""

SPEED_COLUMNS = [
    *PLACE, "model", "throughput_median", "throughput_low", "throughput_high", "throughput_count", "source", "batch",
    "num_classes", "disturbances",
]  # fmt: skip
"""`throughput_count` rates of which median and range are told: of runs, or timings of one measurement (with quartiles
as its range); `source` is `alone`, `runs` or `training`."""

_BLANKS = {"num_devices": 1, "threads": 0, "harness_version": "", "torch": ""}


def with_throughput(records: Records, files: Sequence[Path]) -> Records:
    """The records with the rows of these files in place of all other throughput; UserError when one cannot be read or
    has no row about a model of these runs."""
    rows: dict[str, ThroughputRow] = {}
    for path in files:
        try:
            found = read_rows(path)
        except FileNotFoundError:
            raise UserError(
                f"--throughput {path}: no such file; python -m scaling.bench inference --search-batch --rows FILE "
                "writes one"
            ) from None
        rows |= {row.key: row for row in found}
        if alone_speeds(replace(records, throughput=tuple(found))).empty:
            measured = ", ".join(sorted({f"{row.model} at {row.image_size} px" for row in found})) or "nothing"
            raise UserError(
                f"--throughput {path}: no row is about a model of these runs as they were trained (name, image size "
                f"and options); measured is {measured}"
            )
    return replace(records, throughput=tuple(rows.values()))


def speeds(records: Records) -> pd.DataFrame:
    """SPEED_COLUMNS, a row per place and model: of what was measured alone where there is any for these models, else of
    what the runs measured at their end, else of their training."""
    alone = alone_speeds(records)
    if len(alone):
        return alone
    runs = records.runs
    if THROUGHPUT_METRIC in runs and runs[THROUGHPUT_METRIC].notna().any():
        return _of_runs(records, THROUGHPUT_METRIC)
    return _of_runs(records, TRAINING_RATE) if TRAINING_RATE in runs else pd.DataFrame(columns=SPEED_COLUMNS)


def places(table: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """`speeds` by place, each with a name that tells it from the others: device and precision, and whatever else
    differs between places."""
    groups = list(table.groupby(PLACE, sort=True))
    varied = [name for number, name in enumerate(PLACE) if len({key[number] for key, _ in groups}) > 1]
    return [(_place_text(dict(zip(PLACE, key, strict=True)), varied), rows) for key, rows in groups]


def alone_speeds(records: Records) -> pd.DataFrame:
    """Those of `speeds` that were measured apart from training."""
    rows = []
    for series, runs in records.runs.groupby("model", sort=False):
        base = str(series).partition(" [")[0]
        fitting = [row for row in records.throughput if row.model == base and _fits(row, runs)]
        classes = {records.plans[run].model.num_classes for run in runs["run_id"] if run in records.plans}
        best: dict[tuple[object, ...], ThroughputRow] = {}
        for row in sorted(fitting, key=lambda row: (row.num_classes in classes, row.unix_time)):
            best[row.place] = row
        rows += [_speed_of(row, str(series)) for row in best.values()]
    return pd.DataFrame(rows, columns=SPEED_COLUMNS)


def _fits(row: ThroughputRow, runs: pd.DataFrame) -> bool:
    """Whether a row is about the network of these runs, which share one."""
    if "image_size" in runs and set(runs["image_size"]) != {row.image_size}:
        return False
    return "options" not in runs or all(json.loads(options) == row.options for options in runs["options"].unique())


def _speed_of(row: ThroughputRow, series: str) -> dict[str, object]:
    return row.place._asdict() | {
        "num_devices": 1,
        "model": series,
        "throughput_median": row.images_per_second,
        "throughput_low": row.lower_quartile,
        "throughput_high": row.upper_quartile,
        "throughput_count": len(row.rates),
        "source": "alone",
        "batch": row.batch,
        "num_classes": row.num_classes,
        "disturbances": "; ".join(row.disturbances),
    }


def _of_runs(records: Records, column: str) -> pd.DataFrame:
    """Median and range over the runs of each model, by place."""
    runs = records.runs[records.runs[column].notna()].copy()
    for name, blank in _BLANKS.items():
        if name not in runs:
            runs[name] = blank
    is_inference = column == THROUGHPUT_METRIC
    if is_inference and "throughput_device" in runs:
        # It may have been measured long after training, on another machine; always on one device.
        told = {name: runs[f"throughput_{name}"] for name in ("device", "precision", "threads", "software")}
        runs = runs.assign(**told, num_devices=1)
    else:
        runs["software"] = [
            ", ".join(
                f"{name} {version}" for name, version in (("torch", torch), ("scaling-study", harness)) if version
            )
            for torch, harness in zip(runs["torch"], runs["harness_version"], strict=True)
        ]
    runs = runs.assign(work="inference" if is_inference else "training", compile_mode="")
    grouped = runs.groupby([*PLACE, "model"], sort=True)[column].agg(
        throughput_median="median", throughput_low="min", throughput_high="max", throughput_count="count"
    )
    source = "runs" if is_inference else "training"
    table = grouped.reset_index().assign(source=source, batch=0, num_classes=0, disturbances="")
    return table[SPEED_COLUMNS]


def _place_text(place: dict[str, object], varied: Sequence[str]) -> str:
    parts = [f"{place['device']}, {place['precision']}"]
    if place["num_devices"] != 1:
        parts.append(f"{place['num_devices']} devices")
    if "threads" in varied:
        parts.append(f"{place['threads']} threads" if place["threads"] != 1 else "1 thread")
    if place["compile_mode"] not in ("", "none") or "compile_mode" in varied:
        parts.append("not compiled" if place["compile_mode"] in ("", "none") else f"compiled ({place['compile_mode']})")
    if "software" in varied:
        parts.append(str(place["software"]))
    if "work" in varied:
        parts.append(str(place["work"]))
    return ", ".join(parts)
