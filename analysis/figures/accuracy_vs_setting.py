"""Figure: metric against the setting that a study varies, where it does not vary the size.

A permutation, a learning rate, a duration: the axis holds its values, in order where they are numbers, and a line joins
the means of one model. Runs that differ in something else besides are lines of their own.
"""

from collections.abc import Sequence

import pandas as pd

from analysis.figures.canvas.axes import EndLabel, end_labels, headline, value_axis
from analysis.figures.canvas.drawing import Drawing
from analysis.figures.canvas.style import looks, new_figure
from analysis.runs.conditions import BUDGETS, SERIES_SETTINGS
from analysis.runs.load import Records
from analysis.runs.naming import in_its_place, parse_model_name
from scaling.readable import number_text, range_text, spread_text

_AXES = (*BUDGETS.values(), "batch", *SERIES_SETTINGS)
"""Columns that may be the axis, the first that varies within a model winning: a budget before what follows from it."""
_FOLLOWERS = ("epochs", "steps", "flops", "warmup_steps", "decay", "end_learning_rate")
"""Columns that follow from another setting and tell no series apart."""
_EVEN_RATIO = 1.25
"""Above this ratio of largest to smallest, numbers stand on a log axis."""


def varied_setting(runs: pd.DataFrame) -> str | None:
    """The column that the runs of one model vary at one size; None where they vary the size or nothing."""
    if runs["num_images"].nunique() > 1:
        return None
    base = _bases(runs)
    return next((name for name in _AXES if name in runs and _varies(runs, base, name)), None)


def accuracy_vs_setting(records: Records, metric: str) -> Drawing | None:
    """None where nothing but the size, or nothing at all, varies."""
    runs = records.runs[records.runs[metric].notna()]
    setting = varied_setting(runs)
    if setting is None:
        return None
    table = setting_cells(records, runs, setting, metric)
    measure = records.metric(metric)
    values = list(dict.fromkeys(table[setting]))
    is_number = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values)
    title = setting.replace("_", " ")
    figure = new_figure()
    ax = figure.add_subplot()
    drawing = Drawing(
        name=f"accuracy_vs_{setting}{records.suffix}",
        title=f"Accuracy and {title}",
        caption=(
            f"{measure.title} against {title}; all runs saw the same number of images. Markers: mean over runs "
            f"({range_text(table['num_runs'].min(), table['num_runs'].max(), 'run')} a point); bars: smallest to "
            "largest run."
        ),
        figure=figure,
        points=table,
    )
    bases = {name: parse_model_name(name) for name in table["base"]}
    known = {name.partition(" [")[0]: model for name, model in records.models.items()}
    look_of = looks((known | {}).values()) | looks(bases.values())
    ends = []
    for (base, rest), rows in table.groupby(["base", "rest"], sort=False):
        look = look_of[known[str(base)].name if known[str(base)].name in look_of else str(base)]
        places = rows[setting] if is_number else [values.index(value) for value in rows[setting]]
        ax.vlines(places, measure.scale * rows["min"], measure.scale * rows["max"], **look.bar())
        (line,) = ax.plot(places, measure.scale * rows["mean"], **look.line())
        name = in_its_place(known[str(base)].short or known[str(base)].base_title) + (f" [{rest}]" if rest else "")
        drawing.explain(line, [
            f"{name}\n{title} {_text(row[setting])}\n"
            f"{spread_text(measure.scale * row['mean'], measure.scale * row['sd'], measure.digits)}, "
            f"n = {row['num_runs']}\n{row['run_ids']}"
            for row in rows.to_dict("records")
        ])  # fmt: skip
        ends.append(EndLabel(name, float(list(places)[-1]), measure.scale * float(rows["mean"].iloc[-1]), look.ink))
    if is_number:
        if min(values) > 0 and max(values) > _EVEN_RATIO * min(values):
            ax.set_xscale("log")
        ax.set_xticks(values, [_text(value) for value in values], minor=False)
        ax.set_xticks([], minor=True)
    else:
        ax.set_xticks(range(len(values)), [_text(value) for value in values])
    ax.set_xlabel(title)
    value_axis(ax, measure.title)
    headline(ax, drawing.title, "mean; bars: smallest to largest run")
    end_labels(ax, ends)
    return drawing


def setting_cells(records: Records, runs: pd.DataFrame, setting: str, metric: str) -> pd.DataFrame:
    """A row per model, other differing settings, and value of `setting`, numbers ascending."""
    base = _bases(runs)
    others = [
        name for name in _AXES
        if name in runs and name != setting and name not in _FOLLOWERS and _varies(runs, base, name)
    ]  # fmt: skip
    rest = runs[others].astype(str).apply(
        lambda row: ", ".join(f"{name} {value}" for name, value in row.items()), axis=1
    ) if others else pd.Series("", index=runs.index)  # fmt: skip
    order = {name: place for place, name in enumerate(sorted(records.models, key=lambda name: records.models[name]))}
    kept = runs.assign(base=base, rest=rest, rank=runs["model"].map(order))
    rows = []
    for (name, also, value), group in kept.groupby(["base", "rest", setting], sort=True, dropna=False):
        found = group[metric]
        rows.append(
            {
                "base": name, "rest": also, setting: value, "mean": found.mean(),
                "sd": found.std(ddof=1), "min": found.min(), "max": found.max(), "num_runs": len(found),
                "run_ids": " ".join(group["run_id"]), "rank": group["rank"].min(),
            }
        )  # fmt: skip
    table = pd.DataFrame(rows)
    first = table.groupby("base")["rank"].transform("min")
    return table.assign(rank=first).sort_values(["rank", "rest"], kind="stable").drop(columns="rank", errors="ignore")


def _bases(runs: pd.DataFrame) -> "pd.Series[str]":
    """Names of the models without what tells series apart."""
    return runs["model"].str.partition(" [")[0]


def _varies(runs: pd.DataFrame, base: "pd.Series[str]", name: str) -> bool:
    """Whether runs of one model differ in it by more than rounding."""
    for _, values in runs[name].groupby(base):
        distinct: Sequence[object] = values.dropna().unique()
        if len(distinct) > 1:
            numbers = pd.to_numeric(pd.Series(list(distinct)), errors="coerce")
            if numbers.isna().any() or numbers.max() > 1.05 * numbers.min():
                return True
    return False


def _text(value: object) -> str:
    if isinstance(value, float):
        return number_text(value) if value >= 1e-3 else f"{value:g}"
    return str(value).replace("_", " ")
