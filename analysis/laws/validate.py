"""`python -m analysis.laws.validate TABLE.csv`: how often 90 % intervals hold, and how wide they are.

Public curves (columns as in tests/analysis/laws/assets) are cut at x_max, x_max/2 and x_max/4 and thinned to 4, 6 and 8
sizes two-fold apart; the held-out rows are scored as new runs. Drawn curves come from forms and noise that the law
does not have. With `--leave-out`, the spread prior is centred on the other data set's drift alone.
"""

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.laws.drift import SpreadPrior
from analysis.laws.forms import Array
from analysis.laws.law import LEVEL, fit_law
from analysis.runs.curves import Curve, read_curves
from scaling.errors import run_command
from scaling.tables import plain_table

NUM_SIZES = (None, 4, 6, 8)
REACHES = (2, 4, 8)
DRIFT_OF = {"inet": 0.006, "cal": 0.05}
"""Typical drift on each data set of the table, for a prior that has not seen the other."""
_NUM_DRAWN = 60


@dataclass(frozen=True, slots=True)
class Case:
    """What is known of one curve, and the new runs that are to be predicted."""

    group: str
    model: str
    sizes: str
    reach: int
    x: Array
    y: Array
    new_x: Array
    new_y: Array


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    return run_command(_run, argv)


def _run(argv: Sequence[str] | None) -> int:
    parser = argparse.ArgumentParser(prog="python -m analysis.laws.validate", description=__doc__)
    parser.add_argument("table", metavar="TABLE.csv", type=Path)
    parser.add_argument("--leave-out", action="store_true", help="centre the prior on the other data set")
    options = parser.parse_args(argv)
    curves = read_curves(options.table, "Seen Examples", "Loss", ["Task", "Model"], "Training")
    found = pd.DataFrame([_score(case, options.leave_out) for case in [*public_cases(curves), *drawn_cases()]])
    print(_shown(_table(found, ["group", "sizes", "reach"])))
    plain = found[(found["sizes"] == "all") & (found["reach"] == 2)]
    print(_shown(_table(plain, ["model"])))
    return 0


def public_cases(curves: Sequence[Curve]) -> Iterator[Case]:
    """Every curve at every number of sizes and reach that its points allow."""
    for curve in curves:
        for reach in REACHES:
            known = curve.x <= curve.x[-1] * 2 / reach * (1 + 1e-9)
            for number in NUM_SIZES:
                chosen = np.flatnonzero(known)
                if number is not None:
                    wanted = np.log(curve.x[chosen[-1]]) - np.log(2) * np.arange(number)
                    gaps = np.abs(np.log(curve.x[chosen])[None] - wanted[:, None])
                    chosen = chosen[np.unique(gaps.argmin(axis=1))] if gaps.min(axis=1).max() < 0.3 else chosen[:0]
                if len(chosen) >= (number or 4):
                    group = curve.label["Task"].split("_")[0]
                    yield Case(
                        group, curve.label["Model"], str(number or "all"), reach, curve.x[chosen], curve.y[chosen],
                        curve.held_x, curve.held_y
                    )  # fmt: skip


def drawn_cases(seed: int = 0, number_drawn: int = _NUM_DRAWN) -> Iterator[Case]:
    """Weibull, Hill, two-power and broken curves, noise with heavy tails and, every second time, memory along x."""
    rng = np.random.default_rng(seed)
    for number in (4, 6, 8, 50):
        for index in range(number_drawn):
            x = 1e3 * (2.0 ** np.arange(number) if number < 50 else np.geomspace(1, 512, number))
            x = np.repeat(x, 1 if number == 50 else rng.integers(1, 4))
            ahead = x[-1] * np.array([2.0, 4.0, 8.0])
            clean = _drawn_curve(index % 4, np.append(x, ahead) / x[-1], rng)
            spread = 0.01 * np.exp(0.6 * rng.standard_normal())
            noise = rng.standard_t(4, len(clean)) / np.sqrt(2)
            if index % 2:
                noise[1 : len(x)] = 0.5 * noise[: len(x) - 1] + np.sqrt(0.75) * noise[1 : len(x)]
            y = np.minimum(clean * np.exp(spread * noise), 1.0)
            for place, reach in enumerate(REACHES):
                at = len(x) + place
                yield Case(
                    "drawn", "drawn", str(number), reach, x, y[: len(x)], ahead[place : place + 1], y[at : at + 1]
                )


def _drawn_curve(kind: int, x: Array, rng: np.random.Generator) -> Array:
    """Error at x (1 at the largest size), 0.95 at most."""
    floor, start, power = rng.uniform(0.02, 0.3), rng.uniform(0.5, 0.9), rng.uniform(0.2, 0.9)
    scale = np.exp(rng.uniform(np.log(0.05), np.log(4.0)))
    if kind == 0:
        return np.asarray(floor + (start - floor) * np.exp(-((x / scale) ** (0.5 * power))))
    if kind == 1:
        return np.asarray(floor + (start - floor) / (1 + (x / scale) ** power))
    if kind == 2:
        return np.asarray(np.minimum(floor + 0.1 * x ** (-0.3 * power) + 0.03 * x**-power, 0.95))
    later = power * rng.uniform(0.5, 1.8)
    return np.asarray(np.minimum(0.3 * (x / scale) ** -power * (1 + (x / scale) ** 4) ** ((power - later) / 4), 0.95))


def _score(case: Case, leave_out: bool) -> dict[str, object]:
    started = time.process_time()
    others = [drift for group, drift in DRIFT_OF.items() if group != case.group]
    spread = SpreadPrior(drift=others[0]) if leave_out and case.group in DRIFT_OF else None
    row = fit_law(case.x, case.y, spread=spread).predict(case.new_x)
    seconds = time.process_time() - started
    truth = np.log(case.new_y)
    low, high, centre = (np.log(row[name].to_numpy()) for name in ("run_low", "run_high", "error"))
    missed = np.maximum(low - truth, 0) + np.maximum(truth - high, 0)
    return {
        "group": case.group, "model": case.model, "sizes": case.sizes, "reach": case.reach,
        "covered": float(np.mean(missed == 0)), "width": float(np.mean(high - low)),
        "interval score": float(np.mean(high - low + 2 / (1 - LEVEL) * missed)),
        "rmse": float(np.sqrt(np.mean((centre - truth) ** 2))), "seconds": seconds,
    }  # fmt: skip


def _shown(table: pd.DataFrame) -> str:
    return plain_table(list(table.columns), [[str(value) for value in row] for row in table.itertuples(index=False)])


def _table(found: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    groups = found.groupby(by, sort=False)
    table = groups[["covered", "interval score", "rmse", "seconds"]].mean()
    table.insert(1, "median width", groups["width"].median())
    table.insert(0, "curves", groups.size())
    return table.map(lambda value: f"{value:.3f}" if isinstance(value, float) else value).reset_index()


if __name__ == "__main__":
    sys.exit(main())
