"""Which runs measured a metric in the same way, from the column `evals`: the evaluations of each run as JSON."""

import json

import pandas as pd

_OF_TRAINING = ("upstream", "train", "overfit")
"""Names before the slash that are of no evaluation."""


def measured_as(runs: pd.DataFrame, metric: str) -> "pd.Series[str]":
    """How each run measured `metric`, equal where it was measured alike; empty where no evaluation did."""
    name = metric.partition("/")[0]
    if "evals" not in runs or not metric or name in _OF_TRAINING:
        return pd.Series("", index=runs.index, dtype=str)
    way = {text: _way_in(text, name) for text in runs["evals"].unique()}
    return runs["evals"].map(way).fillna("").astype(str)


def ways_of(measured: "pd.Series[str]") -> list[str]:
    """The different ways in a fixed order, without that of runs that did not measure it."""
    return sorted(set(measured) - {""})


def _way_in(text: object, name: str) -> str:
    """The part of `evals` that is about one evaluation; a table made elsewhere may say something else there, which
    then counts as a whole."""
    if not isinstance(text, str):
        return "" if pd.isna(text) else str(text)
    try:
        found = json.loads(text)
    except ValueError:
        return text
    if not isinstance(found, dict):
        return text
    return json.dumps(found[name], sort_keys=True, ensure_ascii=False) if name in found else ""
