"""The methods paragraph of a report, written from what the records say."""

from collections.abc import Mapping

import matplotlib as mpl
import numpy as np
import pandas as pd
import scipy

from analysis.laws.estimator import POINTS_PER_PARAMETER
from analysis.laws.law import Law
from analysis.load import Records
from analysis.metrics import metric_title
from analysis.numbers import count_text, percent_text
from scaling import __version__

_RECIPE = ("optimizer", "learning_rate", "weight_decay", "warmup_steps", "decay", "clip", "loss", "augment")


def methods_text(records: Records, metric: str, laws: Mapping[str, Law], num_excluded: int) -> str:
    """Paragraphs separated by blank lines."""
    return "\n\n".join(
        [_runs(records, metric, num_excluded), _training(records), _statistics(laws), _software(records)]
    )


def _runs(records: Records, metric: str, num_excluded: int) -> str:
    runs = records.runs
    sizes = sorted(runs["num_images"].unique())
    shares = runs.groupby("num_images")["fraction"].first()
    listed = ", ".join(f"{count_text(size)} ({percent_text(shares[size])})" for size in sizes)
    counts = runs.groupby(["model", "num_images"]).size()
    seeds = f"{counts.min()}" if counts.min() == counts.max() else f"{counts.min()} to {counts.max()}"
    left_out = (
        "No run was left out."
        if not num_excluded
        else f"{num_excluded} runs are left out; each is listed with its reason."
    )
    return (
        f"{len(runs)} finished runs of {runs['model'].nunique()} models on {len(sizes)} pre-training sizes ({listed} "
        f"distinct images), {seeds} runs a point; a run's seed sets initialisation, order, augmentation and, unless "
        f"planned otherwise, the subset draw. The headline metric is {metric_title(metric)} ({metric}). {left_out}"
    )


def _training(records: Records) -> str:
    runs = records.runs
    parts = []
    if "protocol" in runs:
        for condition in sorted(runs["condition"].unique()):
            rows = runs[runs["condition"] == condition]
            epochs = sorted(rows["epochs"].unique())
            spread = f"{epochs[0]:.3g}" if len(epochs) == 1 else f"{epochs[0]:.3g} to {epochs[-1]:.3g}"
            parts.append(f"Protocol: {rows['protocol'].iloc[0].replace('_', ' ')} ({condition}), {spread} epochs.")
    recipe = [f"{name.replace('_', ' ')} {_values(runs[name])}" for name in _RECIPE if name in runs]
    if recipe:
        parts.append(f"Recipe: {'; '.join(recipe)}.")
    if "data_digest" in runs:
        digests = ", ".join(
            sorted(
                f"{name} (digest {digest[:12]})"
                for name, digest in set(zip(runs["data"], runs["data_digest"], strict=True))
            )
        )
        parts.append(f"Training data: {digests}.")
    parts.append(f"Hardware: {_values(runs['device'])}; precision {_values(runs['precision'])}.")
    return " ".join(parts)


def _statistics(laws: Mapping[str, Law]) -> str:
    text = (
        "Averages are over runs, spreads are sample standard deviations (n - 1). Differences between models are paired by "
        "seed and subset, their spread pooled over sizes, with 90 % Student-t intervals. "
    )
    if not laws:
        return text + "No model has the three sizes that a law needs."
    windows = pd.Series(
        {
            model: f"{law.choice.estimator.name}, {law.num_points_used} of {law.num_points} runs"
            for model, law in laws.items()
        }
    )
    used = "; ".join(f"{', '.join(group.index)}: {name}" for name, group in windows.groupby(windows, sort=True))
    structural = [model for model, law in laws.items() if law.draws.structural_log_sd > 0]
    extra = (
        f"Back-tests of {', '.join(structural)} missed by more than the run spread explains; their intervals carry a structural term."
        if structural
        else "No back-test missed by more than the run spread explains."
    )
    return text + (
        "Laws are fitted to log error by least squares from many starts, with a weak prior on exponent and floor; the form "
        "and its window are chosen by rolling-origin back-tests, and a form other than the power law with floor on the last three doublings "
        f"needs {POINTS_PER_PARAMETER} sizes a parameter. Used here: {used}. Intervals come from refits to resampled runs; {extra} "
        "Predictions state how many doublings they lie beyond the data."
    )


def _software(records: Records) -> str:
    runs = records.runs
    parts = [
        f"Analysis {__version__} with numpy {np.__version__}, scipy {scipy.__version__}, pandas {pd.__version__}, matplotlib {mpl.__version__}."
    ]
    if "harness_version" in runs:
        commits = sorted({commit[:12] for commit in runs["git_commit"] if commit})
        dirty = " (with uncommitted changes)" if runs["git_dirty"].any() else ""
        parts.append(
            f"Runs made by version {_values(runs['harness_version'])}"
            + (f", commit {', '.join(commits)}{dirty}" if commits else "")
            + (f", torch {_values(runs['torch'])}." if "torch" in runs else ".")
        )
    return " ".join(parts)


def _values(column: pd.Series) -> str:
    values = sorted(column.unique(), key=str)
    texts = [f"{value:g}" if isinstance(value, float) else str(value) for value in values]
    return ", ".join(texts) if len(texts) <= 4 else f"{texts[0]} to {texts[-1]}"
