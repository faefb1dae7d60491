"""Which way a metric is better, and its bounds, by its name: the one place that knows, for searches and the analysis.

A name settles it for what this project measures and for the usual names of classification and detection. Of any other
nothing is known, and nothing is guessed.
"""

import math
import re
from dataclasses import dataclass

_SHARES = re.compile(
    r"top_?\d+$|accuracy$|(?:^|_)(?:acc|precision|recall|f1|f1_score|m?iou|m?ap|auc|auroc|avg5|real|vtab)(?:_at_\d+)?$"
)
"""Shares of right answers: higher is better, from 0 to 1, printed in percent."""
_SPEEDS = re.compile(r"(?:^|_)(?:images|examples|samples)_per_second$")
_LOSSES = re.compile(r"loss$|error$|(?:^|_)(?:err|nll|perplexity|ppl|mse|rmse|mae)$")
"""Losses and errors: lower is better, 0 at best."""
_GAPS = re.compile(r"(?:^|_)loss_gap$")


@dataclass(frozen=True, slots=True)
class MetricFacts:
    """What the name of a metric tells."""

    higher_is_better: bool | None = None
    """None when the name does not tell."""
    low: float = -math.inf
    """Smallest value it can take, in stored units."""
    high: float = math.inf
    is_percent: bool = False
    """Stored as a fraction, printed in percent."""


def known_facts(name: str) -> MetricFacts:
    """By the last part of a full name such as `unseen/5shot_top1`."""
    leaf = re.sub(r"[^a-z0-9]+", "_", name.rsplit("/", 1)[-1].lower())
    if _SHARES.search(leaf):
        return MetricFacts(True, 0.0, 1.0, is_percent=True)
    if _GAPS.search(leaf):
        return MetricFacts(False)
    if _LOSSES.search(leaf):
        return MetricFacts(False, 0.0)
    if _SPEEDS.search(leaf):
        return MetricFacts(True, 0.0)
    return MetricFacts()
