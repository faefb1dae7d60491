"""A metric as the analysis prints it: which way is better, its bounds, title and decimals.

What a name tells is known by `scaling.records.scores.metrics`; anything else is declared (`--higher-is-better`,
`--lower-is-better`, `--bounds`) or refused. Nothing is guessed: a law fitted to an accuracy as if it were an error is
a wrong number that looks right.
"""

import argparse
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scaling.errors import UserError, did_you_mean
from scaling.records.scores.metrics import known_facts

FEWSHOT_SUFFIX = "/5shot_top1"
UPSTREAM_METRIC = "upstream/precision_at_1"
THROUGHPUT_METRIC = "throughput/images_per_second"

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric by its full name, such as `unseen/5shot_top1`."""

    name: str
    higher_is_better: bool | None = None
    """None when neither its name nor a declaration tells."""
    low: float = -math.inf
    """Smallest value it can take, in stored units."""
    high: float = math.inf
    is_percent: bool = False
    """Stored as a fraction, printed in percent."""

    @property
    def direction(self) -> float:
        """1 where higher is better, -1 where lower is; UserError when that is unknown."""
        if self.higher_is_better is None:
            raise UserError(
                f"{self.name}: the name does not say whether higher or lower is better; "
                "add --higher-is-better or --lower-is-better"
            )
        return 1.0 if self.higher_is_better else -1.0

    @property
    def scale(self) -> float:
        """Factor from the stored value to the printed one."""
        return 100.0 if self.is_percent else 1.0

    @property
    def digits(self) -> int:
        """Decimals of a printed value."""
        return 1 if self.is_percent else 3

    @property
    def title(self) -> str:
        """Axis text with unit, such as `unseen: linear 5-shot top-1, %`."""
        name, _, leaf = self.name.rpartition("/")
        leaf = re.sub(r"^(\d+)shot_top1", r"linear \1-shot top-1", leaf).replace("_at_", "@").replace("_", " ")
        return f"{name + ': ' if name else ''}{leaf}{', %' if self.is_percent else ''}"

    @property
    def error_title(self) -> str:
        """Axis text of what laws are fitted to."""
        if not self.higher_is_better:
            return self.title
        return f"{self.title.removesuffix(', %')} error, %" if self.is_percent else f"{self.high:g} - {self.title}"

    @property
    def no_law_because(self) -> str:
        """Why no law can be fitted: empty when the distance to the best value is known."""
        best = self.high if self.direction > 0 else self.low
        if math.isfinite(best):
            return ""
        return f"{self.name} has no best value to approach; declare --bounds LOW HIGH"

    def errors(self, values: Array) -> Array:
        """Distance of stored values to the best possible one: what laws are fitted to, 0 at best."""
        return self.high - values if self.direction > 0 else values - self.low

    def value_of_error(self, error: float) -> float:
        """The stored value that lies `error` away from the best."""
        return self.high - error if self.direction > 0 else self.low + error

    def text(self, value: float, sign: str = "") -> str:
        """A stored value as it is printed."""
        return f"{self.scale * value:{sign}.{self.digits}f}"

    def outside(self, values: pd.Series) -> pd.Series:
        """Which values it cannot take; missing ones are not among them."""
        return values.notna() & ~values.between(self.low, self.high)


def known_metric(name: str) -> Metric:
    """What the name alone tells."""
    facts = known_facts(name)
    return Metric(name, facts.higher_is_better, facts.low, facts.high, facts.is_percent)


def declared_metric(
    name: str, *, higher_is_better: bool | None = None, bounds: tuple[float, float] | None = None
) -> Metric:
    """The metric with what the user says about it; what is not said stays as the name tells.

    UserError when the declaration contradicts the name or the bounds are none.
    """
    metric = known_metric(name)
    known = metric.higher_is_better
    if higher_is_better is None:
        higher_is_better = known
    elif known is not None and known is not higher_is_better:
        words = ("higher", "lower") if known else ("lower", "higher")
        raise UserError(
            f"--{words[1]}-is-better: {name} is known as a metric whose {words[0]} values are better; "
            "leave the option out, or rename the metric"
        )
    low, high = bounds or (metric.low, metric.high)
    if not low < high:
        raise UserError(f"--bounds {low:g} {high:g}: the first must be below the second; give LOW HIGH")
    is_percent = metric.is_percent and (low, high) == (0.0, 1.0)
    return Metric(name, higher_is_better, low, high, is_percent)


def check_direction(metric: Metric) -> None:
    """UserError, with the way out, for a metric of which nothing says whether higher or lower is better."""
    _ = metric.direction


def metric_names(runs: pd.DataFrame, wanted: str | None = None) -> dict[str, int]:
    """Metrics that runs hold and how many runs hold each: numbers whose name has a slash, and `wanted`."""
    numbers = runs.select_dtypes("number")
    counts = {str(name): int(numbers[name].notna().sum()) for name in numbers if "/" in str(name) or name == wanted}
    return {name: count for name, count in counts.items() if count}


def headline_for(runs: pd.DataFrame, eval_order: Sequence[str], wanted: str | None) -> str:
    """Name of the metric to plot: linear 5-shot top-1 when the study measured it (the proxy for transfer of Mixer
    Section 3.3), else upstream precision at 1.

    `eval_order` holds the names of the evaluations as planned; of several few-shot evaluations the one that
    most runs have wins, then the first planned. UserError when `wanted` exists nowhere or nothing fits.
    """
    counts = metric_names(runs, wanted)
    if wanted is not None:
        if wanted not in counts:
            raise UserError(f"--metric {wanted}: no finished run has this metric; {_hint(wanted, counts)}")
        return wanted
    fewshot = [name for name in counts if name.endswith(FEWSHOT_SUFFIX)]
    if fewshot:
        rank = {name + FEWSHOT_SUFFIX: position for position, name in reversed(list(enumerate(eval_order)))}
        return min(fewshot, key=lambda name: (-counts[name], rank.get(name, len(rank)), name))
    if UPSTREAM_METRIC in counts:
        return UPSTREAM_METRIC
    raise UserError(
        f"no finished run has a metric *{FEWSHOT_SUFFIX} or {UPSTREAM_METRIC}; "
        f"name one with --metric ({_hint('', counts)})"
    )


def _hint(wanted: str, counts: Mapping[str, int]) -> str:
    return did_you_mean(wanted, sorted(counts)) if counts else "metrics have a slash in their names; none of these has"


def add_metric_options(parser: argparse.ArgumentParser, option: str) -> None:
    """`--higher-is-better`, `--lower-is-better` and `--bounds` of the metric that `option` names."""
    way = parser.add_mutually_exclusive_group()
    way.add_argument(
        "--higher-is-better", action="store_true", default=None, help=f"of {option}, where its name does not say"
    )
    way.add_argument("--lower-is-better", action="store_false", dest="higher_is_better", help=f"of {option}, likewise")
    parser.add_argument(
        "--bounds", metavar=("LOW", "HIGH"), nargs=2, type=float, help=f"smallest and largest value of {option} (0 inf)"
    )


def metric_of(name: str, options: argparse.Namespace) -> Metric:
    """The metric with what the options say about it; UserError where they contradict its name."""
    bounds = tuple(options.bounds) if options.bounds else None
    return declared_metric(name, higher_is_better=options.higher_is_better, bounds=bounds)
