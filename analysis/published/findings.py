"""What the published curves say, computed from the points: who overtakes whom between which sizes, and what saturates.

An overtaking is a change of sign of the difference between two neighbouring sizes; nothing is claimed between them.
"""

from dataclasses import dataclass

import pandas as pd

from analysis.runs.load import Records
from scaling.readable import percent_text

SATURATED = 0.01
"""A curve counts as saturated from the size after which it gains less than this in all (fraction of top-1)."""


@dataclass(frozen=True, slots=True)
class Overtaking:
    later: str
    earlier: str
    from_fraction: float
    to_fraction: float


def overtakings(records: Records, metric: str, leader: str) -> list[Overtaking]:
    """Models that are behind `leader` at one size and ahead at the next common one."""
    curves = _curves(records, metric)
    reference = curves[leader]
    found = []
    for model, curve in curves.items():
        gap = (curve - reference).dropna()
        for before, after in zip(gap.index[:-1], gap.index[1:], strict=True):
            if gap[before] < 0 < gap[after]:
                found.append(Overtaking(model, leader, before, after))
    return found


def saturated_from(records: Records, metric: str) -> dict[str, float]:
    """For each model that saturates before its last size: the fraction from which on it gains less than SATURATED."""
    found = {}
    for model, curve in _curves(records, metric).items():
        flat = [size for size in curve.index[:-1] if curve.iloc[-1] - curve[size] < SATURATED]
        if flat:
            found[model] = float(flat[0])
    return found


def sentences(records: Records, metric: str, leader: str) -> list[str]:
    """The findings in words."""
    title = {name: model.title for name, model in records.models.items()}
    text = []
    for event in overtakings(records, metric, leader):
        text.append(
            f"{title[event.later]} overtakes {title[event.earlier]} between {percent_text(event.from_fraction)} and "
            f"{percent_text(event.to_fraction)} of the data."
        )
    curves = _curves(records, metric)
    behind = [model for model, curve in curves.items() if curve.iloc[-1] < curves[leader].iloc[-1]]
    if behind:
        text.append(f"Still behind {title[leader]} on all of the data: {', '.join(title[m] for m in behind)}.")
    for model, fraction in saturated_from(records, metric).items():
        points = f"{100 * SATURATED:g} point"
        text.append(f"{title[model]} saturates by {percent_text(fraction)}: it gains less than {points} after that.")
    return text


def _curves(records: Records, metric: str) -> dict[str, pd.Series]:
    """Mean metric by fraction for each model, in the order of the records."""
    means = records.runs.groupby(["model", "fraction"], sort=False)[metric].mean()
    return {str(model): means[model].sort_index() for model in records.runs["model"].unique()}
