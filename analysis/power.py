"""`python -m analysis.power STUDY`: how many more runs would tell two models apart?

From the measured spread between runs: the number of seeds at which a two-sided 10 % test of paired differences finds a
stated difference with 80 % probability, and the number of further sizes at which the fitted curves do.
"""

import argparse
import itertools
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import chdtri, ndtr, ndtri, stdtrit

from analysis.comparison.compare import LEVEL, values_by_model
from analysis.laws.forms import Array
from analysis.laws.law import Law
from analysis.laws.study_laws import study_laws
from analysis.laws.uncertainty import curve_log_sd
from analysis.report.tables import plain_text
from analysis.runs.load import Records, load_records
from analysis.runs.metrics import check_direction, headline_for
from analysis.runs.summary import without_impossible
from scaling.errors import UserError, run_command

POWER = 0.8
MAX_SEEDS = 200
MAX_SIZES = 6
_DETECTABLE = float(ndtri(0.5 + LEVEL / 2) + ndtri(POWER))
"""Standard errors that a difference must measure to be found with POWER."""
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(200)
"""Gauss-Legendre, of the quantiles in `paired_power`."""
DIFFERENCES = (0.5, 1.0, 2.0)
"""In points of the printed metric."""
_DESCRIPTION = "How many seeds, or sizes, would tell two models apart, given the spread that the study measured."
_EXAMPLE = "example: python -m analysis.power runs/quickstart --difference 1.0"


def main(argv: Sequence[str] | None = None) -> int:
    return run_command(_run, argv)


def _run(argv: Sequence[str] | None) -> int:
    parser = argparse.ArgumentParser(prog="python -m analysis.power", description=_DESCRIPTION, epilog=_EXAMPLE)
    parser.add_argument(
        "study_dirs", metavar="STUDY_DIR", nargs="+", type=Path, help="RUNS/<study> of a launched study"
    )
    parser.add_argument("--metric", metavar="NAME", help="metric (default: the report's headline metric)")
    parser.add_argument("--difference", metavar="POINTS", nargs="+", type=float, default=list(DIFFERENCES),
                        help="differences to tell apart, in printed units (default: %(default)s)")  # fmt: skip
    options = parser.parse_args(argv)
    wrong = next((points for points in options.difference if not 0 < points < math.inf), None)
    if wrong is not None:
        raise UserError(f"--difference {wrong:g}: give differences above 0, in points")
    told = [f"{points:g}" for points in options.difference]
    twice = next((text for text in told if told.count(text) > 1), None)
    if twice is not None:
        raise UserError(f"--difference {twice} stands twice; give each difference, as six digits tell it, once")
    records = load_records(options.study_dirs)
    metric = headline_for(records.runs, records.eval_order, options.metric)
    check_direction(records.metric(metric))
    records, _ = without_impossible(records, metric)
    print(power_text(records, metric, options.difference))
    return 0


def power_text(records: Records, metric: str, differences: Sequence[float]) -> str:
    """The tables with a line of explanation each; differences in printed units."""
    scale = records.metric(metric).scale
    stored = [difference / scale for difference in differences]
    test = f"{POWER:.0%} power at a two-sided {1 - LEVEL:.0%} test"
    seeds = seeds_table(records, metric, stored)
    parts = [f"{records.metric(metric).title}: seeds per model at one size for {test} of paired differences"]
    if seeds.empty:
        parts.append("no pair of models has two paired seeds at a size: run at least 2 seeds to measure the spread")
    else:
        parts.append(plain_text(_printed(records, seeds, scale, "seeds", MAX_SEEDS)))
    laws, _ = study_laws(records, metric)
    if len(laws) > 1:
        parts += [
            "",
            f"further sizes, each twice the one before with as many seeds, for {test} between the fitted curves",
            "at twice today's largest size (runs of the two models counted as independent)",
            plain_text(_printed(records, sizes_table(laws, stored), scale, "sizes", MAX_SIZES)),
        ]
    if laws:
        parts += [
            "",
            "standard deviation of the fitted mean error, % of its value, at the largest size x and at 2 x:",
            "now, with one more seed at each size, with one more size (2 x)",
            plain_text(designs_table(records, laws)),
        ]
    return "\n".join(parts)


def seeds_table(records: Records, metric: str, differences: Sequence[float]) -> pd.DataFrame:
    """Rows (model_a, model_b, paired_sd, freedom) and a column of seeds per difference; infinite beyond MAX_SEEDS.

    `paired_sd` is the standard deviation of one paired difference, pooled over sizes.
    """
    runs = records.runs[records.runs[metric].notna()]
    values, unit_sizes = values_by_model(runs, metric)
    models = sorted(runs["model"].unique(), key=lambda model: records.models[model])
    rows = []
    for first, second in itertools.combinations(models, 2):
        gap = pd.Series(values[first].paired - values[second].paired).dropna()
        sizes = unit_sizes[gap.index]
        centred = gap - gap.groupby(sizes).transform("mean")
        freedom = len(gap) - len(set(sizes))
        if freedom < 1:
            continue
        spread = math.sqrt(float((centred**2).sum()) / freedom)
        rows.append(
            [
                first,
                second,
                spread,
                freedom,
                *(seeds_needed(difference / spread if spread else math.inf) for difference in differences),
            ]
        )
    return pd.DataFrame(rows, columns=["model_a", "model_b", "paired_sd", "freedom", *differences])


def seeds_needed(effect: float) -> float:
    """Smallest number of pairs at which a two-sided t test of level 1 - LEVEL finds `effect` (difference over
    standard deviation of one paired difference) with probability POWER."""
    for pairs in range(2, MAX_SEEDS + 1):
        if paired_power(effect, pairs) >= POWER:
            return pairs
    return math.inf


def paired_power(effect: float, pairs: int) -> float:
    """Power of the two-sided paired t test, exact to six digits; `effect` may be infinite.

    The normal tails are averaged over the quantiles of the measured spread: SciPy's noncentral t is NaN where effects
    are large, and NaN reads as a test that finds nothing.
    """
    freedom = pairs - 1
    reach = float(stdtrit(freedom, 0.5 + LEVEL / 2)) * np.sqrt(chdtri(freedom, (1 + _NODES) / 2) / freedom)
    shift = effect * math.sqrt(pairs)
    return float(_WEIGHTS / 2 @ (ndtr(shift - reach) + ndtr(-shift - reach)))


def sizes_table(laws: Mapping[str, Law], differences: Sequence[float]) -> pd.DataFrame:
    """Rows (model_a, model_b, curve_sd, num_sizes) and a column of further sizes per difference; infinite beyond
    MAX_SIZES. `curve_sd` is the standard deviation of the difference of both curves at twice the largest size today."""
    rows = []
    for first, second in itertools.combinations(laws, 2):
        pair = (laws[first], laws[second])
        spreads = [_difference_sd(pair, further) for further in range(MAX_SIZES + 1)]
        needed = [
            next((float(k) for k, sd in enumerate(spreads) if difference >= _DETECTABLE * sd), math.inf)
            for difference in differences
        ]
        rows.append([first, second, spreads[0], min(law.num_sizes for law in pair), *needed])
    return pd.DataFrame(rows, columns=["model_a", "model_b", "curve_sd", "num_sizes", *differences])


def designs_table(records: Records, laws: Mapping[str, Law]) -> pd.DataFrame:
    """Relative standard deviation of the fitted curve, in percent, at the largest size and at twice that size, for
    this study's design, one more seed, and one more size."""
    rows = []
    for model, law in laws.items():
        designs = {"now": law.x, "+1 seed": np.concatenate([law.x, np.unique(law.x)]), "+1 size": _with_sizes(law, 1)}
        row = {"model": records.models[model].title}
        for place, factor in (("x", 1.0), ("2 x", 2.0)):
            for name, design in designs.items():
                row[f"{name}, {place}"] = f"{100 * _curve_sd(law, design, factor * law.draws.x_max):.2f}"
        rows.append(row)
    return pd.DataFrame(rows)


def _difference_sd(pair: tuple[Law, Law], further: int) -> float:
    """Standard deviation, in the error's unit, of the difference of two curves at twice the largest size."""
    at = 2 * max(law.draws.x_max for law in pair)
    parts = [
        float(law.fit.predict(np.array([at]))[0, 0]) * _curve_sd(law, _with_sizes(law, further), at) for law in pair
    ]
    return math.hypot(*parts)


def _with_sizes(law: Law, further: int) -> Array:
    """[N] sizes of the law's runs and of `further` sizes more, with the usual number of seeds."""
    seeds = int(np.median(np.unique(law.x, return_counts=True)[1]))
    return np.concatenate([law.x, np.repeat(law.draws.x_max * 2.0 ** np.arange(1, further + 1), seeds)])


def _curve_sd(law: Law, design: Array, at: float) -> float:
    return curve_log_sd(law.draws.centre, design, at, float(np.median(law.draws.run_log_sd)))


def _printed(records: Records, table: pd.DataFrame, scale: float, unit: str, most: int) -> pd.DataFrame:
    spread = table.columns[2]
    printed = table[["model_a", "model_b"]].map(lambda model: records.models[model].title)
    printed[f"sd of the {'paired ' if unit == 'seeds' else ''}difference"] = (scale * table[spread]).map(
        "{:.2f}".format
    )
    for difference in table.columns[4:]:
        needed = table[difference].map(lambda n: f"> {most}" if math.isinf(n) else f"{n:.0f}")
        printed[f"{unit} for {scale * difference:g}"] = needed
    return printed.rename(columns={"model_a": "A", "model_b": "B"})


if __name__ == "__main__":
    sys.exit(main())
