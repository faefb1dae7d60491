"""Studies or conditions drawn into one figure on demand: each becomes a series, named after what differs.

Nothing is averaged over them. A name is the label that the user gives a study, else the parts of the conditions that
differ (the data, the budget, the batch, the evaluations), else the studies' names.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from analysis.runs.conditions import condition_parts, condition_text
from analysis.runs.load import Records
from analysis.runs.naming import ModelName
from scaling.errors import UserError, did_you_mean


def overlaid(records: Records, labels: Mapping[Path, str] | None = None, *, metric: str = "", but: str = "") -> Records:
    """The records as one condition of `metric`; unchanged where there is one study with one condition. A part of
    the conditions named by `but` makes no series, for figures that have it as their axis, as compute at equal compute.

    `labels` names the study folders. UserError for a label that two of them share.
    """
    runs = records.runs.copy()
    parts = condition_parts(runs, metric)
    all_differing = [name for name in parts if parts[name].nunique() > 1]
    differing = [name for name in all_differing if name != but]
    text = condition_text(parts[differing]) if differing else pd.Series("", index=runs.index)
    if labels:
        if len(set(labels.values())) < len(labels):
            raise UserError(f"--label: {sorted(labels.values())} holds one name twice; give every study its own")
        folder_of = {run_id: folder.parent.resolve() for run_id, folder in records.run_dirs.items()}
        known = {folder.resolve(): label for folder, label in labels.items()}
        told = runs["run_id"].map(lambda run_id: known[folder_of[run_id]])
        # One label may stand for several conditions, which are never averaged.
        several = text.groupby(told).nunique() > 1
        text = told.where(~told.map(several), told + ", " + text)
    elif not all_differing and runs["study"].nunique() > 1:
        text = runs["study"].astype(str)
    if text.nunique() < 2:
        return records
    names = dict(records.models)
    series = [_with_part(records.models[model], part) for model, part in zip(runs["model"], text, strict=True)]
    names |= {name.name: name for name in series}
    runs["model"] = [name.name for name in series]
    runs["condition"] = condition_text(parts.drop(columns=differing))
    order = sorted(range(len(runs)), key=lambda i: (names[runs["model"].iloc[i]], runs["num_images"].iloc[i], i))
    return replace(records, runs=runs.iloc[order].reset_index(drop=True), models=names)


def renamed(records: Records, titles: Mapping[str, str]) -> Records:
    """The records with other titles for some models, in every figure and table. UserError for an unknown model, and
    for two models of one title."""
    bases = {name.partition(" [")[0] for name in records.models}
    for model in titles:
        if model not in bases:
            raise UserError(f"--rename: no model {model!r} in these runs; {did_you_mean(model, sorted(bases))}")
    models = {
        name: replace(model, label=titles.get(name.partition(" [")[0], model.label))
        for name, model in records.models.items()
    }
    by_title: dict[str, str] = {}
    for name, renamed_model in models.items():
        title = renamed_model.title
        other = by_title.setdefault(title, name)
        if other != name:
            raise UserError(f"--rename: {other!r} and {name!r} are both titled {title!r}; give each a title of its own")
    return replace(records, models=models)


def labels_of(folders: Sequence[Path], labels: Sequence[str]) -> dict[Path, str]:
    """One label per folder, in their order."""
    if len(labels) != len(folders):
        raise UserError(f"--label: {len(labels)} labels for {len(folders)} studies; give one for each, in their order")
    return dict(zip(folders, labels, strict=True))


def _with_part(model: ModelName, part: str) -> ModelName:
    base, bracket, rest = model.name.partition(" [")
    inside = f"{rest.removesuffix(']')}, {part}" if bracket else part
    return replace(model, name=f"{base} [{inside}]")
