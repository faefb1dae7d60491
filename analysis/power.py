"""`python -m analysis.power STUDY`: how many more runs would tell two models apart?

From the measured spread between runs: the number of seeds at which a two-sided 10 % test of paired differences finds a
stated difference with 80 % probability, and what more sizes would do to the uncertainty of the fitted curves.
"""

import argparse
import itertools
import math
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import nctdtr, stdtrit

from analysis.compare import LEVEL
from analysis.laws.law import Law
from analysis.laws.uncertainty import curve_log_sd
from analysis.load import Records, load_records
from analysis.metrics import display_scale, headline_for, metric_title
from analysis.study_laws import study_laws
from analysis.tables import plain_text
from scaling.errors import UserError, run_command

POWER = 0.8
MAX_SEEDS = 200
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
    if min(options.difference) <= 0:
        raise UserError(f"--difference {min(options.difference):g}: give differences above 0, in points")
    records = load_records(options.study_dirs)
    metric = headline_for(records.runs, records.eval_order, options.metric)
    print(power_text(records, metric, options.difference))
    return 0


def power_text(records: Records, metric: str, differences: Sequence[float]) -> str:
    """Both tables with a line of explanation each."""
    scale = display_scale(metric)
    seeds = seeds_table(records, metric, [difference / scale for difference in differences])
    parts = [
        f"{metric_title(metric)}: seeds per model and size for {POWER:.0%} power at a two-sided {1 - LEVEL:.0%} test"
    ]
    if seeds.empty:
        parts.append("no pair of models has two paired seeds at a size: run at least 2 seeds to measure the spread")
    else:
        parts.append(plain_text(_printed(seeds, scale)))
    laws, _ = study_laws(records, metric)
    if laws:
        parts += [
            "",
            "standard deviation of the fitted mean error, % of its value, for this study's law and run spread",
        ]
        parts.append(plain_text(sizes_table(records, laws)))
    return "\n".join(parts)


def seeds_table(records: Records, metric: str, differences: Sequence[float]) -> pd.DataFrame:
    """Rows (model_a, model_b, paired_sd, freedom) and a column of seeds per difference; infinite beyond MAX_SEEDS.

    `paired_sd` is the standard deviation of one paired difference, pooled over sizes.
    """
    runs = records.runs[records.runs[metric].notna()]
    models = sorted(runs["model"].unique(), key=lambda model: records.models[model])
    rows = []
    for first, second in itertools.combinations(models, 2):
        pairs = runs[runs["model"] == first].merge(runs[runs["model"] == second], on=["num_images", "seed"])
        gap = pairs[f"{metric}_x"] - pairs[f"{metric}_y"]
        centred = gap - gap.groupby(pairs["num_images"]).transform("mean")
        freedom = len(gap) - pairs["num_images"].nunique()
        if freedom < 1:
            continue
        spread = math.sqrt(float((centred**2).sum()) / freedom)
        rows.append(
            [first, second, spread, freedom, *(seeds_needed(difference / spread) for difference in differences)]
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
    """Power of the two-sided paired t test, by the noncentral t distribution."""
    critical = float(stdtrit(pairs - 1, 0.5 + LEVEL / 2))
    shift = effect * math.sqrt(pairs)
    return float(1 - nctdtr(pairs - 1, shift, critical) + nctdtr(pairs - 1, shift, -critical))


def sizes_table(records: Records, laws: dict[str, Law]) -> pd.DataFrame:
    """Relative standard deviation of the fitted curve, in percent, at the largest size and at twice that size,
    for this study's design, one more seed, and one more size (twice the largest, the same seeds)."""
    rows = []
    for model, law in laws.items():
        sizes, counts = np.unique(law.x, return_counts=True)
        seeds = int(np.median(counts))
        designs = {
            "as it is": law.x,
            "one more seed": np.concatenate([law.x, sizes]),
            "one more size": np.concatenate([law.x, np.repeat(2 * sizes[-1], seeds)]),
        }
        row = {"model": records.models[model].title}
        for name, design in designs.items():
            for place, at in (("x_max", sizes[-1]), ("2 x_max", 2 * sizes[-1])):
                row[f"{name}, at {place}"] = f"{100 * _curve_sd(law, design, at):.2f}"
        rows.append(row)
    return pd.DataFrame(rows)


def _curve_sd(law: Law, design: np.ndarray, at: float) -> float:
    run_log_sd = float(np.median(law.draws.run_log_sd))
    return curve_log_sd(law.draws.centre, design, at, run_log_sd)


def _printed(table: pd.DataFrame, scale: float) -> pd.DataFrame:
    printed = table[["model_a", "model_b"]].copy()
    printed["sd of a paired difference"] = (scale * table["paired_sd"]).map("{:.2f}".format)
    for difference in table.columns[4:]:
        needed = table[difference].map(lambda n: f"> {MAX_SEEDS}" if math.isinf(n) else f"{n:.0f}")
        printed[f"seeds for {scale * difference:g}"] = needed
    return printed


if __name__ == "__main__":
    sys.exit(main())
