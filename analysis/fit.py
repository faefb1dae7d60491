"""`python -m analysis.fit TABLE.csv`: scaling laws for any table of sizes and errors.

Fits every form and the default estimator to each curve, prints their log errors on held-out rows where a column
marks them, and writes parameters, window, back-tests and predictions as JSON.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.laws.fitting import Prior, fit_form
from analysis.laws.forms import FORMS, Array
from analysis.laws.law import LEVEL, Law, ceiling_of, check_curve, describe, fit_law
from analysis.tables import plain_text
from scaling.errors import UserError, did_you_mean, run_command

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
    parser.add_argument("--y", metavar="COL", required=True, help="error or loss (positive, lower is better)")
    parser.add_argument("--by", metavar="COL", nargs="+", default=[], help="columns that tell curves apart")
    parser.add_argument("--fit-column", metavar="COL", help="1 for rows to fit, 0 for rows to predict and score")
    parser.add_argument("--at", metavar="X", nargs="+", type=float, default=[], help="sizes to predict")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write everything there")
    options = parser.parse_args(argv)
    by = [name for given in options.by for name in given.split(",")]
    table = _read(options.table, [options.x, options.y, *by, *([options.fit_column] if options.fit_column else [])])
    curves = []
    for names, rows in table.groupby(by, sort=True) if by else [((), table)]:
        label = dict(zip(by, names, strict=True))
        curves.append(_fit_curve(label, rows, options.x, options.y, options.fit_column, options.at))
    print(plain_text(_screen_table(curves, bool(options.fit_column))))
    if options.json:
        options.json.write_text(json.dumps({"level": LEVEL, "curves": curves}, indent=1, allow_nan=False) + "\n")
    return 0


def _read(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    try:
        table = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as CSV ({error}); give a table with a header line") from error
    for name in columns:
        if name not in table:
            raise UserError(f"{path}: no column {name!r}; {did_you_mean(name, table.columns)}")
    for name in columns[:2]:
        if not pd.api.types.is_numeric_dtype(table[name]):
            raise UserError(f"{path}: column {name!r} holds text; choose a column of numbers")
    return table


def _fit_curve(
    label: dict[str, object], rows: pd.DataFrame, x: str, y: str, fit_column: str | None, at: list[float]
) -> dict[str, Any]:
    ordered = rows.sort_values([x, y], kind="stable")
    chosen = ordered[fit_column].astype(bool) if fit_column else pd.Series(True, index=ordered.index)
    name = ", ".join(f"{key} {value}" for key, value in label.items()) or "table"
    fit_x, fit_y = ordered.loc[chosen, x].to_numpy(float), ordered.loc[chosen, y].to_numpy(float)
    test_x, test_y = ordered.loc[~chosen, x].to_numpy(float), ordered.loc[~chosen, y].to_numpy(float)
    try:
        check_curve(fit_x, fit_y)
        law = fit_law(fit_x, fit_y)
    except UserError as error:
        raise UserError(f"{name}: {error}") from error
    curve: dict[str, Any] = {"curve": {key: str(value) for key, value in label.items()}, "forms": {}}
    for form in FORMS:
        fit = fit_form(form, fit_x, fit_y, prior=Prior(), ceiling=ceiling_of(fit_y))
        curve["forms"][form.name] = {
            "formula": form.formula,
            "num_params": form.num_params,
            "parameters": describe(fit),
            **_scores(test_y, fit.predict(test_x)[0] if len(test_x) else test_y),
        }
    curve[DEFAULT] = _law_entry(law) | _scores(test_y, law.fit.predict(test_x)[0] if len(test_x) else test_y)
    targets = np.unique([*test_x, *at] or [2 * fit_x.max()])
    curve["predictions"] = law.predict(targets).to_dict("records")
    if len(test_x):
        bands = law.predict(test_x)
        curve[DEFAULT]["share_of_rows_inside_run_interval"] = float(
            np.mean((test_y >= bands["run_low"]) & (test_y <= bands["run_high"]))
        )
    return curve


def _law_entry(law: Law) -> dict[str, Any]:
    reach = float(law.draws.x_max * 2)
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
        "prediction_at_2x_by_window": law.window_sensitivity(reach),
    }


def _scores(truth: Array, predicted: Array) -> dict[str, float]:
    """Root mean square log error on held-out rows (Eq. 6 of arXiv 2209.06640); nothing without such rows."""
    if not len(truth):
        return {}
    return {"rmse_log": float(np.sqrt(np.mean((np.log(predicted) - np.log(truth)) ** 2)))}


def _screen_table(curves: list[dict[str, Any]], scored: bool) -> pd.DataFrame:
    rows = []
    for curve in curves:
        label = " ".join(curve["curve"].values()) or "table"
        law = curve[DEFAULT]
        if scored:
            errors = {name: entry["rmse_log"] for name, entry in curve["forms"].items()}
            rows.append({"curve": label} | errors | {DEFAULT: law["rmse_log"], "estimator": law["estimator"]})
        else:
            last = curve["predictions"][-1]
            rows.append(
                {
                    "curve": label,
                    "estimator": law["estimator"],
                    "at x": f"{last['x']:.4g}",
                    "error": f"{last['error']:.4f}",
                    "90 % mean curve": f"{last['mean_low']:.4f} .. {last['mean_high']:.4f}",
                    "90 % new run": f"{last['run_low']:.4f} .. {last['run_high']:.4f}",
                    "doublings beyond": f"{last['doublings_beyond']:.2f}",
                }
            )
    table = pd.DataFrame(rows)
    if scored:
        names = [*(form.name for form in FORMS), DEFAULT]
        mean = {"curve": "mean RMSE of log error", **table[names].mean(), "estimator": ""}
        table = pd.concat([table, pd.DataFrame([mean])], ignore_index=True)
        table[names] = table[names].map("{:.4f}".format)
    return table


if __name__ == "__main__":
    sys.exit(main())
