"""`python -m analysis.fit TABLE.csv`: scaling laws for any table of sizes and errors.

Fits every form and the default estimator to each curve, prints their log errors on held-out rows where a column
marks them, and writes parameters, window, back-tests and predictions as JSON. Rows that cannot be used and curves
that allow no law are named on stderr; the exit code is 1 when some curves were refused.

Curves that differ in the last --by column alone (the models of one task, say) are taken for one study: what the others
say of exponent, floor, drift and noise is the prior of each (`analysis.laws.pooling`). `--alone` fits each by itself.
"""

import argparse
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.laws.curve_prior import CurvePrior
from analysis.laws.fitting import Fit, Prior, fit_form
from analysis.laws.forms import FORMS
from analysis.laws.law import LEVEL, Law, ceiling_of, check_curve, describe, fit_law
from analysis.laws.pooling import study_priors
from analysis.report.tables import plain_text
from analysis.runs.metrics import Metric, add_metric_options, metric_of
from analysis.runs.tables.curves import Curve, read_curves
from scaling.errors import UserError, run_command
from scaling.records.files import write_text_atomic

_DESCRIPTION = (
    "Fit scaling laws (error against examples) to every curve of a CSV table: forms M1-M4, shifted power law, BNSL, "
    "and the default estimator with 90 % intervals."
)
_EXAMPLE = (
    'example: python -m analysis.fit curves.csv --x "Seen Examples" --y Loss --by Task Model --fit-column Training '
    "--json fits.json"
)
DEFAULT = "default"


def main(argv: Sequence[str] | None = None) -> int:
    return run_command(_run, argv)


def _run(argv: Sequence[str] | None) -> int:
    parser = argparse.ArgumentParser(prog="python -m analysis.fit", description=_DESCRIPTION, epilog=_EXAMPLE)
    parser.add_argument("table", metavar="TABLE.csv", type=Path, help="one row per run; any order")
    parser.add_argument("--x", metavar="COL", required=True, help="examples (positive)")
    parser.add_argument(
        "--y",
        metavar="COL",
        required=True,
        help="error or loss: up to 1 an error rate, kept in [0, 1]; above, a loss. Of an accuracy, by its name or by "
        "--higher-is-better, the error is the distance to the best value",
    )
    add_metric_options(parser, "--y")
    parser.add_argument("--by", metavar="COL", nargs="+", default=[], help="columns that tell curves apart")
    parser.add_argument("--fit-column", metavar="COL", help="1 for rows to fit, 0 for rows to predict and score")
    parser.add_argument("--at", metavar="X", nargs="+", type=float, default=[], help="sizes to predict")
    parser.add_argument(
        "--alone",
        action="store_true",
        help="fit each curve by itself; otherwise curves that differ in the last --by column alone inform each other",
    )
    parser.add_argument("--json", metavar="FILE", type=Path, help="write everything there")
    options = parser.parse_args(argv)
    by = [name for given in options.by for name in given.split(",")]
    metric = metric_of(options.y, options)
    may_rise = options.higher_is_better is not None or bool(metric.higher_is_better)
    curves = read_curves(options.table, options.x, metric, by, options.fit_column)
    usable, refused = [], []
    for curve in curves:
        try:
            check_curve(curve.x, curve.y)
            if curve.is_rising and not may_rise:
                raise UserError(_rising(options.x, metric))
            usable.append(curve)
        except UserError as error:
            refused.append(f"{curve.name}: {error}")
    priors = [CurvePrior.alone() for _ in usable] if options.alone else _pooled_priors(usable, by[:-1])
    fits = [_fit_curve(curve, prior, options.at) for curve, prior in zip(usable, priors, strict=True)]
    if not fits:
        raise UserError(f"{options.table}: {refused[0]}" + _first_left_out(curves))
    if metric.higher_is_better:
        print(f"errors are {metric.high:g} - {metric.name}", file=sys.stderr)
    print(plain_text(_screen_table(fits)))
    for line in [*(f"{curve.name}: left out, {line}" for curve in curves for line in curve.left_out), *refused]:
        print(line, file=sys.stderr)
    if options.json:
        told = {"level": LEVEL, "curves": fits, "refused": refused}
        write_text_atomic(options.json, json.dumps(told, indent=1, allow_nan=False) + "\n")
    return 1 if refused else 0


def _rising(x: str, metric: Metric) -> str:
    """What to say of a column of errors that grows with the size."""
    asked = (
        "say --higher-is-better --bounds 0 1 if it is an accuracy"
        if metric.higher_is_better is None
        else f"if it is an accuracy, name the column so, such as top1 (a column {metric.name!r} is taken for errors)"
    )
    return f"{metric.name} rises with {x}, and laws are of errors that fall; {asked}, or --lower-is-better if it is not"


def _first_left_out(curves: Sequence[Curve]) -> str:
    lines = [line for curve in curves for line in curve.left_out]
    return f" ({len(lines)} rows left out; {lines[0]})" if lines else ""


def _pooled_priors(curves: Sequence[Curve], study_columns: Sequence[str]) -> list[CurvePrior]:
    """The prior of each curve from the others with the same values in `study_columns`."""
    studies: dict[tuple[str, ...], list[int]] = {}
    for place, curve in enumerate(curves):
        studies.setdefault(tuple(curve.label[name] for name in study_columns), []).append(place)
    priors: dict[int, CurvePrior] = {}
    for places in studies.values():
        found = study_priors([(curves[place].x, curves[place].y) for place in places])
        priors |= dict(zip(places, found, strict=True))
    return [priors[place] for place in range(len(curves))]


def _fit_curve(curve: Curve, prior: CurvePrior, at: Sequence[float]) -> dict[str, Any]:
    law = fit_law(curve.x, curve.y, prior=prior)
    found: dict[str, Any] = {"curve": curve.label, "left_out": list(curve.left_out), "forms": {}}
    for form in FORMS:
        fit = fit_form(form, curve.x, curve.y, prior=Prior(), ceiling=ceiling_of(curve.y))
        found["forms"][form.name] = {
            "formula": form.formula,
            "num_params": form.num_params,
            "parameters": describe(fit),
            **_scores(curve, fit),
        }
    found[DEFAULT] = _law_entry(law) | _scores(curve, law.fit)
    targets = np.unique([*curve.held_x, *at] or [2 * curve.x.max()])
    found["predictions"] = law.predict(targets).to_dict("records")
    if len(curve.held_x):
        bands = law.predict(curve.held_x)
        found[DEFAULT]["share_of_rows_inside_run_interval"] = float(
            np.mean((curve.held_y >= bands["run_low"]) & (curve.held_y <= bands["run_high"]))
        )
    return found


def _law_entry(law: Law) -> dict[str, Any]:
    reach = np.array([law.draws.x_max * 2])
    return {
        "form": law.choice.estimator.form.name,
        "estimator": law.choice.estimator.name,
        "window": list(law.window),
        "num_points": law.num_points,
        "num_points_used": law.num_points_used,
        "num_sizes": law.num_sizes,
        "parameters": law.parameters,
        "parameters_at_bounds": law.at_bounds,
        "backtest_log_error": law.choice.backtest_error,
        "structural_log_sd_per_doubling": law.draws.structural_log_sd,
        "run_log_sd": float(np.median(law.draws.run_log_sd)),
        "prediction_at_2x_by_window": {name: float(error[0]) for name, error in law.window_sensitivity(reach).items()},
    }


def _scores(curve: Curve, fit: Fit) -> dict[str, float]:
    """Root mean square log error on held-out rows (Eq. 6 of arXiv 2209.06640); nothing without such rows."""
    if not len(curve.held_x):
        return {}
    gap = fit.log_predict(curve.held_x)[0] - np.log(curve.held_y)
    return {"rmse_log": float(np.sqrt(np.mean(gap**2)))}


def _screen_table(curves: list[dict[str, Any]]) -> pd.DataFrame:
    """Scores on held-out rows where there are any, predictions otherwise."""
    if any("rmse_log" in curve[DEFAULT] for curve in curves):
        return _score_table(curves)
    rows = []
    for curve in curves:
        for row in curve["predictions"]:
            rows.append(
                {
                    "curve": _name(curve),
                    "estimator": curve[DEFAULT]["estimator"],
                    "at x": f"{row['x']:.4g}",
                    "error": f"{row['error']:.4g}",
                    "90 % mean curve": f"{row['mean_low']:.4g} .. {row['mean_high']:.4g}",
                    "90 % new run": f"{row['run_low']:.4g} .. {row['run_high']:.4g}",
                    "doublings beyond": f"{row['doublings_beyond']:.2f}",
                }
            )
    return pd.DataFrame(rows)


def _score_table(curves: list[dict[str, Any]]) -> pd.DataFrame:
    rows = []
    for curve in curves:
        law = curve[DEFAULT]
        errors = {name: entry.get("rmse_log", math.nan) for name, entry in curve["forms"].items()}
        last = curve["predictions"][-1]["doublings_beyond"]
        rows.append(
            {"curve": _name(curve)} | errors
            | {DEFAULT: law.get("rmse_log", math.nan), "estimator": law["estimator"], "doublings beyond": f"{last:.2f}"}
        )  # fmt: skip
    table = pd.DataFrame(rows)
    names = [*(form.name for form in FORMS), DEFAULT]
    mean = {"curve": "mean RMSE of log error", **table[names].mean(), "estimator": "", "doublings beyond": ""}
    table = pd.concat([table, pd.DataFrame([mean])], ignore_index=True)
    table[names] = table[names].map(lambda error: "-" if math.isnan(error) else f"{error:.4f}")
    return table


def _name(curve: dict[str, Any]) -> str:
    return " ".join(curve["curve"].values()) or "table"


if __name__ == "__main__":
    sys.exit(main())
