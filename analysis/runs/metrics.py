"""Which metric is the headline, and how a metric is printed.

The headline is linear 5-shot top-1 when the study measured it (the proxy for transfer of Mixer Section 3.3), else
upstream precision at 1. Accuracies are stored as fractions and printed in percent; everything else keeps its unit.
"""

import re
from collections.abc import Sequence

import pandas as pd

from scaling.errors import UserError, did_you_mean

FEWSHOT_SUFFIX = "/5shot_top1"
UPSTREAM_METRIC = "upstream/precision_at_1"
THROUGHPUT_METRIC = "throughput/images_per_second"

_ACCURACY_ENDINGS = ("top1", "top5", "accuracy", "precision_at_1", "avg5", "real", "vtab")


def headline_for(runs: pd.DataFrame, eval_order: Sequence[str], wanted: str | None) -> str:
    """Name of the metric to plot.

    `eval_order` holds the names of the evaluations as planned; of several few-shot evaluations the one that
    most runs have wins, then the first planned. UserError when `wanted` exists nowhere or nothing fits.
    """
    numbers = runs.select_dtypes("number")
    counts = {str(name): int(numbers[name].notna().sum()) for name in numbers if "/" in str(name) or name == wanted}
    counts = {name: count for name, count in counts.items() if count}
    if wanted is not None:
        if wanted not in counts:
            hint = did_you_mean(wanted, sorted(counts))
            raise UserError(f"--metric {wanted}: no finished run has this metric; {hint}")
        return wanted
    fewshot = [name for name in counts if name.endswith(FEWSHOT_SUFFIX)]
    if fewshot:
        rank = {name + FEWSHOT_SUFFIX: position for position, name in reversed(list(enumerate(eval_order)))}
        return min(fewshot, key=lambda name: (-counts[name], rank.get(name, len(rank)), name))
    if UPSTREAM_METRIC in counts:
        return UPSTREAM_METRIC
    raise UserError(
        f"no finished run has a metric *{FEWSHOT_SUFFIX} or {UPSTREAM_METRIC}; name one with --metric "
        f"({did_you_mean('', sorted(counts))})"
    )


def is_accuracy(metric: str) -> bool:
    """Whether the metric is a fraction of correct answers, printed in percent."""
    leaf = metric.rsplit("/", 1)[-1].lower()
    return leaf.endswith(_ACCURACY_ENDINGS)


def direction(metric: str) -> float:
    """1 where higher is better, -1 for losses and errors."""
    return -1.0 if metric.rsplit("/", 1)[-1].lower().endswith(("loss", "error")) else 1.0


def display_scale(metric: str) -> float:
    """Factor from the stored value to the printed one: 100 for accuracies."""
    return 100.0 if is_accuracy(metric) else 1.0


def metric_title(metric: str) -> str:
    """Axis text with unit, such as `unseen: 5-shot top-1, %`."""
    name, _, leaf = metric.rpartition("/")
    leaf = re.sub(r"^(\d+)shot_top1", r"linear \1-shot top-1", leaf).replace("_at_", "@").replace("_", " ")
    return f"{name}: {leaf}{', %' if is_accuracy(metric) else ''}" if name else leaf
