"""`python -m analysis.laws.validate TABLE.csv`: how often 90 % intervals hold, how wide they are, and what brings what.

Public curves (columns as in tests/analysis/laws/assets) are cut at x_max, x_max/2 and x_max/4 and thinned to 4, 6 and 8
sizes two-fold apart; the held-out rows are scored as new runs. The curves of one task are one study.

Left out are, with `--leave-out data-set`, the data set of the curve from what the prior of the drift is centred on, and
with `--leave-out architecture` all curves of the model's family, from that centre and from the study. Without either,
curves drawn from forms and noise that the law does not have, each a study of its own, are scored too. `--alone` fits
every curve by itself. `--forms` adds the error of other laws fitted to all sizes.

Curves of one model and data set are one independent unit: `units` counts them, and the 90 % interval of a coverage and
the standard error of an RMSE (`+-`) are those of so few (`coverage_error`). `within 0.85-0.95` is open where the
interval allows both answers.
"""

import argparse
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.laws.coverage_error import GOAL, coverage_of, rows_per_unit, standard_error
from analysis.laws.curve_prior import SpreadPrior
from analysis.laws.fitting import Prior, fit_form
from analysis.laws.forms import BNSL, M1, M4, Array
from analysis.laws.law import LEVEL, ceiling_of, fit_law
from analysis.laws.pooling import prior_from
from analysis.runs.metrics import known_metric
from analysis.runs.tables.curves import Curve, read_curves
from scaling.errors import run_command
from scaling.readable import plain_table

NUM_SIZES = (None, 4, 6, 8)
REACHES = (2, 4, 8)
DRAWN = "drawn"
_NUM_DRAWN = 60
_FORMS = (M1, M4, BNSL)


@dataclass(frozen=True, slots=True)
class Case:
    """What is known of one curve, and the new runs that are to be predicted."""

    group: str
    study: str
    """Curves of one study inform each other, at equal sizes and reach."""
    model: str
    sizes: str
    reach: int
    x: Array
    y: Array
    new_x: Array
    new_y: Array

    @property
    def family(self) -> str:
        return self.model.split("/")[0]

    @property
    def unit(self) -> str:
        """Curves of one unit miss together: shot counts of one model are read off the same checkpoints."""
        return self.study if self.group == DRAWN else f"{self.group} {self.model}"


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    return run_command(_run, argv)


def _run(argv: Sequence[str] | None) -> int:
    parser = argparse.ArgumentParser(prog="python -m analysis.laws.validate", description=__doc__)
    parser.add_argument("table", metavar="TABLE.csv", type=Path)
    parser.add_argument("--leave-out", choices=["data-set", "architecture"])
    parser.add_argument("--alone", action="store_true", help="no curve informs another")
    parser.add_argument("--forms", action="store_true", help="also M1, M4 and BNSL, on all sizes at twice the data")
    options = parser.parse_args(argv)
    curves = read_curves(options.table, "Seen Examples", known_metric("Loss"), ["Task", "Model"], "Training")
    public = list(public_cases(curves))
    spreads = spreads_without(public, options.leave_out) if options.leave_out else {}
    rows = []
    for case in [*public, *([] if options.leave_out else drawn_cases())]:
        others = [] if options.alone else _others(case, public, options.leave_out == "architecture")
        rows.append(_score(case, others, spreads.get((case.group, case.family), SpreadPrior()), options.forms))
    found = pd.DataFrame(rows)
    is_drawn = found["group"] == DRAWN
    worths = {drawn: _worth(found[is_drawn == drawn]) for drawn in set(is_drawn)}
    print(_shown(_table(found, ["group", "sizes", "reach"], worths)))
    plain = found[(found["sizes"] == "all") & (found["reach"] == 2)]
    print(_shown(_table(plain, ["group", "family"], worths)))
    print(_shown(_prediction(plain)))
    return 0


def _others(case: Case, cases: Sequence[Case], other_families: bool) -> list[Case]:
    """The other curves of a case's study."""
    of_study = (case.study, case.sizes, case.reach)
    return [
        other
        for other in cases
        if (other.study, other.sizes, other.reach) == of_study
        and other is not case
        and not (other_families and other.family == case.family)
    ]


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
                        group, curve.label["Task"], curve.label["Model"], str(number or "all"), reach, curve.x[chosen],
                        curve.y[chosen], curve.held_x, curve.held_y
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
                    DRAWN,
                    f"{DRAWN} {number} {index}",
                    DRAWN,
                    str(number),
                    reach,
                    x,
                    y[: len(x)],
                    ahead[place : place + 1],
                    y[at : at + 1],
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


def drift_centres(cases: Sequence[Case], without_family: str = "") -> dict[str, float]:
    """Median drift of the public curves of each data set, each fitted by itself."""
    drifts: dict[str, list[float]] = {}
    for case in cases:
        if case.sizes == "all" and case.reach == 2 and case.group != DRAWN and case.family != without_family:
            drifts.setdefault(case.group, []).append(fit_law(case.x, case.y).draws.structural_log_sd)
    return {group: float(np.median(found)) for group, found in drifts.items()}


def spreads_without(cases: Sequence[Case], left_out: str) -> dict[tuple[str, str], SpreadPrior]:
    """The prior of the spreads for each (data set, family), centred without what is left out."""
    found = {}
    for family in sorted({case.family for case in cases}):
        centres = drift_centres(cases, family if left_out == "architecture" else "")
        for group in centres:
            kept = [centre for name, centre in centres.items() if left_out == "architecture" or name != group]
            found[group, family] = SpreadPrior(drift=float(np.exp(np.mean(np.log(kept)))))
    return found


def _score(case: Case, others: Sequence[Case], spread: SpreadPrior, with_forms: bool) -> dict[str, object]:
    started = time.process_time()
    prior = prior_from([(other.x, other.y) for other in others], spread)
    row = fit_law(case.x, case.y, prior=prior).predict(case.new_x)
    seconds = time.process_time() - started
    truth = np.log(case.new_y)
    low, high, centre = (np.log(row[name].to_numpy()) for name in ("run_low", "run_high", "error"))
    missed = np.maximum(low - truth, 0) + np.maximum(truth - high, 0)
    return {
        "group": case.group, "family": case.family, "sizes": case.sizes, "reach": case.reach,
        "unit": case.unit,
        "covered": float(np.mean(missed == 0)), "width": float(np.mean(high - low)),
        "interval score": float(np.mean(high - low + 2 / (1 - LEVEL) * missed)),
        "rmse": _rmse(centre - truth), "seconds": seconds,
        **(_form_errors(case, truth) if with_forms and case.sizes == "all" and case.reach == 2 else {}),
    }  # fmt: skip


def _form_errors(case: Case, truth: Array) -> dict[str, float]:
    return {
        form.name: _rmse(
            fit_form(form, case.x, case.y, prior=Prior(), ceiling=ceiling_of(case.y)).log_predict(case.new_x)[0] - truth
        )
        for form in _FORMS
    }


def _rmse(gap: Array) -> float:
    return float(np.sqrt(np.mean(gap**2)))


def _shown(table: pd.DataFrame) -> str:
    return plain_table(list(table.columns), [[str(value) for value in row] for row in table.itertuples(index=False)])


def _worth(found: pd.DataFrame) -> float:
    cells = found.groupby(["group", "sizes", "reach"], sort=False)
    return rows_per_unit([(rows["covered"].to_numpy(), rows["unit"].to_numpy()) for _, rows in cells])


def _table(found: pd.DataFrame, by: list[str], worths: Mapping[bool, float]) -> pd.DataFrame:
    """One row per group; `worths` are those of units of public and of drawn curves."""
    groups = found.groupby(by, sort=False)
    summary = groups[["interval score", "rmse", "seconds"]].mean()
    coverages = [
        coverage_of(rows["covered"].to_numpy(), rows["unit"].to_numpy(), worths[rows["group"].iloc[0] == DRAWN])
        for _, rows in groups
    ]
    errors = [standard_error(rows["rmse"].to_numpy(), rows["unit"].to_numpy()) for _, rows in groups]
    table = pd.DataFrame(
        {
            "curves": groups.size(),
            "units": groups["unit"].nunique(),
            "covered": [coverage.share for coverage in coverages],
            "90 %": [f"{coverage.low:.2f}-{coverage.high:.2f}" for coverage in coverages],
            f"within {GOAL[0]:.2f}-{GOAL[1]:.2f}": [coverage.verdict for coverage in coverages],
            "median width": groups["width"].median(),
            "interval score": summary["interval score"],
            "rmse": summary["rmse"],
            "+-": errors,
            "seconds": summary["seconds"],
        }
    )
    return table.map(_cell).reset_index()


def _prediction(plain: pd.DataFrame) -> pd.DataFrame:
    """RMSE on public curves with its standard error over models: by data set, mean of these, mean of all curves."""
    public = plain[plain["group"] != DRAWN]
    groups = public.groupby("group", sort=False)
    equal, by_curves = np.full(groups.ngroups, 1 / groups.ngroups), groups.size().to_numpy() / len(public)
    rows: list[dict[str, object]] = []
    for name in [name for name in ("rmse", *(form.name for form in _FORMS)) if name in public]:
        means = groups[name].mean().to_numpy()
        errors = np.array([standard_error(found[name].to_numpy(), found["unit"].to_numpy()) for _, found in groups])
        columns = dict(zip(map(str, groups.size().index), np.eye(groups.ngroups), strict=True))
        shown = {
            column: f"{weights @ means:.4f} +- {np.sqrt(weights**2 @ errors**2):.4f}"
            for column, weights in {**columns, "mean of data sets": equal, "mean of curves": by_curves}.items()
        }
        rows.append({"law": "default" if name == "rmse" else name, **shown})
    return pd.DataFrame(rows)


def _cell(value: object) -> object:
    if isinstance(value, float):
        return "-" if np.isnan(value) else f"{value:.3f}"
    return value


if __name__ == "__main__":
    sys.exit(main())
