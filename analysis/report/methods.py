"""The methods paragraph of a report, written from what the records say."""

from collections.abc import Mapping

import matplotlib as mpl
import numpy as np
import pandas as pd
import scipy

from analysis.laws.law import Law
from analysis.runs.caveats import changes_note, unfair_note, used_text
from analysis.runs.load import Records
from analysis.runs.measured import ways_text
from scaling import __version__
from scaling.readable import count_text, counted, named, percent_text

_RECIPE = ("optimizer", "learning_rate", "weight_decay", "warmup_steps", "decay", "clip", "loss", "augment")

_MAX_NAMED, _MAX_VALUES = 4, 8
"""Models named beside a value, and values of a setting."""


def methods_text(records: Records, metric: str, laws: Mapping[str, Law], num_excluded: int, mixed: str = "") -> str:
    """Paragraphs separated by blank lines; `mixed` is what `analysis.runs.measured` left out."""
    runs = " ".join(filter(None, (_runs(records, metric, num_excluded), _ways(records, metric), mixed)))
    return "\n\n".join([runs, _training(records), _statistics(laws), _software(records)])


def _runs(records: Records, metric: str, num_excluded: int) -> str:
    runs = records.runs
    sizes = sorted(runs["num_images"].unique())
    shares = runs.groupby("num_images")["fraction"].first()
    listed = ", ".join(f"{count_text(size)} ({percent_text(shares[size])})" for size in sizes)
    counts = runs.groupby(["model", "num_images"]).size()
    fewest, most = counts.min(), counts.max()
    seeds = counted(fewest, "run") if fewest == most else f"{fewest} to {most} runs"
    left_out = "1 run is" if num_excluded == 1 else f"{num_excluded:,} runs are"
    excluded = f"{left_out} left out; each is listed with its reason." if num_excluded else "No run was left out."
    return (
        f"{counted(len(runs), 'finished run')} of {counted(runs['model'].nunique(), 'model')} on "
        f"{counted(len(sizes), 'pre-training size')} ({listed} distinct images), {seeds} a point; a run's seed sets "
        f"initialisation, order, augmentation and, unless planned otherwise, the subset draw.{_shared_seeds(runs)} "
        f"The headline metric is {records.metric(metric).title} ({metric}). {excluded}"
    )


def _shared_seeds(runs: pd.DataFrame) -> str:
    """Runs of one point that are less independent than their number says: they begin with the same weights."""
    if "subset_seed" not in runs:
        return ""
    point = ["condition", "model", "num_images"]
    draws = runs.groupby([*point, "seed"])["subset_seed"].nunique()
    shared = draws[draws > 1].reset_index()
    if shared.empty:
        return ""
    several = shared.groupby(point).ngroups
    seeds = ", ".join(str(seed) for seed in sorted(shared["seed"].unique()))
    return (
        f" At {several} of {counted(runs.groupby(point).ngroups, 'point')}, runs share seed {seeds} and differ in the "
        "subset draw alone; they count as independent runs, though they share initialisation."
    )


def _ways(records: Records, metric: str) -> str:
    """What the numbers of `evaluations 1` mean in the names of conditions and series."""
    text = ways_text(records.runs, metric)
    return f"The headline was measured in several ways, which are never averaged: {text}." if text else ""


def _training(records: Records) -> str:
    runs = records.runs
    parts = []
    if "protocol" in runs:
        for condition, rows in runs.groupby("condition", sort=True):
            told = f"Protocol: {rows['protocol'].iloc[0].replace('_', ' ')} ({condition})"
            epochs = rows["epochs"].dropna() if "epochs" in rows else []
            if len(epochs):
                low, high = f"{min(epochs):.3g}", f"{max(epochs):.3g}"
                told += f", {low if low == high else f'{low} to {high}'} epochs"
            parts.append(f"{told}.")
    if "stopped_early" in runs and runs["stopped_early"].any():
        early = ", ".join(runs.loc[runs["stopped_early"], "run_id"])
        parts.append(
            f"Ended before their planned steps, out of patience, and counted with what they really used: {early}."
        )
    recipe = [f"{name.replace('_', ' ')} {_values_of_whom(records, name)}" for name in _RECIPE if name in runs]
    if recipe:
        parts.append(f"Recipe: {'; '.join(recipe)}.")
    if "data_digest" in runs:
        contents = sorted(set(zip(runs["data"], runs["data_digest"], strict=True)))
        digests = ", ".join(f"{name} (digest {digest[:12]})" for name, digest in contents)
        parts.append(f"Training data: {digests}.")
    threads = used_text(runs)
    parts.append(
        f"Hardware: {_values(runs['device'])}; precision {_values(runs['precision'])}"
        + (f"; CPU threads of a process: {threads}." if threads else ".")
    )
    parts += filter(None, (unfair_note(records), changes_note(records)))
    return " ".join(parts)


def _statistics(laws: Mapping[str, Law]) -> str:
    text = (
        "Averages are over runs, spreads are sample standard deviations (n - 1). Differences between models are paired "
        "by seed, their spread pooled over sizes, with 90 % Student-t intervals. "
    )
    if not laws:
        return text + "No model has the three sizes that a law needs."
    used = pd.Series(
        {
            name: f"{law.choice.estimator.name}: {' to '.join(map(count_text, law.window))} images, "
            f"{law.num_points_used} of {law.num_points} runs"
            for name, law in laws.items()
        }
    )
    told = "; ".join(f"{', '.join(group.index)} ({name})" for name, group in used.groupby(used, sort=True))
    drifts = "; ".join(f"{name}: {100 * law.draws.structural_log_sd:.1f} %" for name, law in laws.items())
    return text + (
        "Laws are fitted to log error by least squares from many starts, with a weak prior on exponent and floor. Used "
        f"here: {told}. A curve strays from its law by a drift that grows with every doubling beyond the data; its "
        "spread has a prior, learned from public learning curves, and is never zero. At one doubling its standard "
        f"deviation is, relative to the error, {drifts}. Intervals are drawn from the posterior over law, drift and "
        "run noise. Predictions say how many doublings they lie beyond the data, and how they change with the window, "
        "one of the windows leaving out the smallest size used."
    )


def _software(records: Records) -> str:
    runs = records.runs
    libraries = ", ".join(f"{library.__name__} {library.__version__}" for library in (np, scipy, pd, mpl))
    parts = [f"Analysis {__version__} with {libraries}."]
    if "harness_version" in runs:
        commits = sorted({commit[:12] for commit in runs["git_commit"] if commit})
        made = f"Runs made by version {_values(runs['harness_version'])}"
        if commits:
            made += f", commit {', '.join(commits)}"
        if runs["git_dirty"].any():
            made += " with uncommitted changes"
        parts.append(f"{made}, torch {_values(runs['torch'])}.")
    return " ".join(parts)


def _values_of_whom(records: Records, name: str) -> str:
    """The values of a setting, each with the models that have it where there are several."""
    runs = records.runs
    values = sorted(runs[name].unique(), key=str)
    if len(values) == 1:
        return _values(runs[name])
    told = []
    for value in values:
        rows = runs[runs[name] == value]
        titles = list(dict.fromkeys(records.models[model].title for model in rows["model"]))
        text = f"{value:g}" if isinstance(value, float) else str(value)
        told.append(f"{text} ({named(titles, _MAX_NAMED)})")
    more = f"; {len(told) - _MAX_VALUES} more values, in runs.csv" if told[_MAX_VALUES:] else ""
    return ", ".join(told[:_MAX_VALUES]) + more


def _values(column: pd.Series) -> str:
    values = sorted(column.unique(), key=str)
    texts = [f"{value:g}" if isinstance(value, float) else str(value) for value in values]
    return ", ".join(texts) if len(texts) <= 4 else f"{texts[0]} to {texts[-1]}"
