"""What may be compared: runs are averaged and drawn together only when nothing but model, size and seed differs.

A condition is what must be equal for a comparison of models: the training and validation data, the protocol with its
budget, the batch and how the metric in question was measured. Each condition gets figures of its own. Within one, runs
of the same model and size that differ in a setting (a learning rate, say) become series of their own, named after what
differs; a setting that changes only from size to size belongs to the protocol and stays in one series.
"""

from dataclasses import replace

import pandas as pd

from analysis.runs.naming import ModelName
from analysis.runs.ways import measured_as, ways_of
from scaling.readable import number_text, power_text
from scaling.records.run_plan import RecipePlan

SERIES_SETTINGS = (
    "image_size",
    "options",
    "permute",
    "exclusion",
    *RecipePlan.model_fields,
    "drop_path",
    "warmup_steps",
    "decay",
)
"""Columns that tell series of one model apart: all that a plan may set and that is no size, seed or budget."""
BUDGETS = {"constant_steps": "steps", "constant_epochs": "epochs", "matched_compute": "flops"}
"""The column that holds what a protocol keeps equal."""
BUDGET_TOLERANCE = 0.05
"""Whole steps make budgets of one protocol differ a little; larger gaps are other budgets."""


def name_series(runs: pd.DataFrame, models: dict[str, ModelName]) -> tuple[pd.DataFrame, dict[str, ModelName]]:
    """Add column `condition` and rename `model` where settings differ; returns the runs and the new names."""
    runs = runs.copy()
    runs["condition"] = condition_text(condition_parts(runs))
    settings = [name for name in SERIES_SETTINGS if name in runs and runs[name].nunique(dropna=False) > 1]
    names: dict[str, ModelName] = {}
    for (_, model), group in runs.groupby(["condition", "model"], sort=True):
        differing = _differing_settings(group, settings)
        for values, rows in group.groupby(differing, sort=True, dropna=False) if differing else []:
            text = ", ".join(_told(name, value) for name, value in zip(differing, values, strict=True))
            series = f"{model} [{text}]"
            names[series] = replace(models[str(model)], name=series)
            runs.loc[rows.index, "model"] = series
    return runs, names


def _told(setting: str, value: object) -> str:
    """A word of the permutation or the augmentation speaks for itself; any other value needs its setting's name."""
    return str(value) if setting in ("permute", "augment") and value != "none" else f"{setting} {value}"


def _differing_settings(group: pd.DataFrame, settings: list[str]) -> list[str]:
    if not settings:
        return []
    counts = group.groupby("num_images")[settings].nunique(dropna=False)
    return [name for name in settings if (counts[name] > 1).any()]


def condition_parts(runs: pd.DataFrame, metric: str = "") -> pd.DataFrame:
    """What must be equal for a comparison of `metric`, in words: a column each for data, protocol, batch, and
    validation set and the evaluation behind the metric where they differ. A run that lacks it has no such part."""
    parts = pd.DataFrame(index=runs.index)
    parts["data"] = _data_names(runs)
    parts["protocol"] = _budgets(runs)
    parts["batch"] = [_batch_text(batch) for batch in runs["batch"]] if "batch" in runs else ""
    if "val_digest" in runs and runs["val_digest"].nunique() > 1:
        ranks = {text: rank for rank, text in enumerate(sorted(runs["val_digest"].unique()), 1)}
        parts["val_digest"] = "validation set " + runs["val_digest"].map(ranks).astype(str)
    measured = measured_as(runs, metric)
    ways = ways_of(measured)
    if len(ways) > 1:
        told = {way: f"evaluations {rank}" for rank, way in enumerate(ways, 1)}
        parts["evals"] = measured.map(told).fillna("")
    return parts


def _batch_text(batch: float) -> str:
    if pd.isna(batch):
        return ""
    return f"batch {batch:g}" if batch < 1e6 else f"batch {batch:.0f}"


def condition_text(parts: pd.DataFrame) -> "pd.Series[str]":
    """The parts of each row in one text."""
    rows = parts.to_numpy(str).tolist()
    return pd.Series([", ".join(part for part in row if part) for row in rows], index=parts.index, dtype=str)


def _data_names(runs: pd.DataFrame) -> pd.Series:
    """Folder names of the data; where one name stands for two contents with the study, or with the digest where a
    study has both. Tables of others may have names alone, which are told where they differ."""
    if "data_digest" not in runs:
        named = "data" in runs and runs["data"].nunique() > 1
        return runs["data"].astype(str) if named else pd.Series("", index=runs.index)
    name_of = runs.groupby("data_digest")["data"].min()
    ambiguous = set(name_of[name_of.duplicated(keep=False)].index)
    studies = runs.groupby("data_digest")["study"].agg(lambda names: ", ".join(sorted(set(names))))
    by_study = not studies[list(ambiguous)].duplicated().any()
    told = dict(name_of.items())
    for digest in ambiguous:
        told[digest] += f" ({studies[digest]})" if by_study else f" {digest[:6]}"
    return runs["data_digest"].map(told)


def _budgets(runs: pd.DataFrame) -> pd.Series:
    if "protocol" not in runs:
        return pd.Series("", index=runs.index)
    texts = pd.Series("", index=runs.index)
    for protocol, group in runs.groupby("protocol"):
        amount = group[BUDGETS[str(protocol)]].astype(float)
        if protocol == "constant_steps":
            texts[group.index] = [f"{round(value):,} steps".replace(",", " ") for value in amount]
            continue
        groups = [amount[amount.between(*ends)] for ends in clusters(sorted(amount.unique()))]
        middles = [float(members.median()) for members in groups]
        per_epochs = protocol == "constant_epochs"
        names = [number_text(middle) for middle in middles] if per_epochs else budget_names(middles)
        for members, name in zip(groups, names, strict=True):
            texts[members.index] = f"{name} epochs" if per_epochs else f"{name} FLOPs"
    return texts


def budget_names(flops: list[float]) -> list[str]:
    """Amounts of FLOPs as short texts that differ: two digits name a budget unless another would share its name."""
    short = [power_text(value, 2) for value in flops]
    return [name if short.count(name) == 1 else power_text(value, 4) for name, value in zip(short, flops, strict=True)]


def in_order(runs: pd.DataFrame) -> list[str]:
    """The conditions of `runs`: by data, protocol, budget from small to large, and name."""
    first = runs.groupby("condition", sort=True).head(1)
    keys = {}
    for row in first.to_dict("records"):
        protocol = str(row.get("protocol", ""))
        amount = float(row[BUDGETS[protocol]]) if protocol in BUDGETS else 0.0
        keys[row["condition"]] = (str(row.get("data", "")), protocol, amount, row["condition"])
    return sorted(keys, key=keys.__getitem__)


def clusters(values: list[float], tolerance: float = BUDGET_TOLERANCE) -> list[tuple[float, float]]:
    """Ends of groups of ascending values: in a group, no value is more than `tolerance` larger than the first."""
    ends: list[tuple[float, float]] = []
    for value in values:
        if ends and value <= ends[-1][0] * (1 + tolerance):
            ends[-1] = (ends[-1][0], value)
        else:
            ends.append((value, value))
    return ends
