"""Tables of laws, predictions, comparisons and crossovers as they are printed in a report."""

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd

from analysis.laws.law import FAR_DOUBLINGS, Law
from analysis.runs.load import Records
from analysis.runs.metrics import Metric
from analysis.runs.naming import FAMILY_TITLES
from scaling.readable import chance_text, cost_text, count_text


def law_table(records: Records, laws: Mapping[str, Law]) -> pd.DataFrame:
    """Form, window, parameters and what the back-tests say, one row per model."""
    rows = []
    for model, law in laws.items():
        parameters = law.parameters
        chosen = law.choice.backtest_error.get(law.choice.estimator.name)
        rows.append(
            {
                "model": records.models[model].title,
                "law": law.choice.estimator.form.formula,
                "window": f"{count_text(law.window[0])} to {count_text(law.window[1])}",
                "runs used": f"{law.num_points_used} of {law.num_points}",
                "exponent": f"{parameters['exponent']:.2f}",
                "floor": f"{parameters['floor']:.3f}" if "floor" in parameters else "-",
                "at bound": ", ".join(law.at_bounds) or "-",
                "run spread, % of error": f"{100 * float(np.median(law.draws.run_log_sd)):.2f}",
                "back-test log error": "-" if chosen is None else f"{chosen:.4f}",
                "structural, % per doubling": f"{100 * law.draws.structural_log_sd:.2f}",
            }
        )
    return pd.DataFrame(rows)


def prediction_table(records: Records, laws: Mapping[str, Law], metric: str) -> pd.DataFrame:
    """Each model at twice and four times its largest size, with both intervals and the sensitivity to the window."""
    measure = records.metric(metric)
    rows = []
    for model, law in laws.items():
        reach = np.array([2.0, 4.0]) * law.draws.x_max
        windows = law.window_sensitivity(reach)
        for place, row in law.predict(reach).iterrows():
            at = row["x"]
            other = [_printed(values[place], measure) for values in windows.values()]
            doublings = row["doublings_beyond"]
            rows.append(
                {
                    "model": records.models[model].title,
                    "images": count_text(at),
                    "doublings beyond the data": f"{doublings:.1f}" + (" (far)" if doublings >= FAR_DOUBLINGS else ""),
                    "prediction": f"{_printed(row['error'], measure):.{measure.digits}f}",
                    "90 %, mean curve": _interval(row["mean_low"], row["mean_high"], measure),
                    "90 %, one new run": _interval(row["run_low"], row["run_high"], measure),
                    "other windows": _range(other, measure),
                }
            )
    return pd.DataFrame(rows)


def _printed(error: float, measure: Metric) -> float:
    return measure.scale * measure.value_of_error(error)


def _range(values: list[float], measure: Metric) -> str:
    """Smallest to largest, or `-` when the windows hold the same points."""
    digits = measure.digits
    low, high = min(values), max(values)
    return "-" if high - low < 1e-9 * abs(high) else f"{low:.{digits}f} to {high:.{digits}f}"


def _interval(low: float, high: float, measure: Metric) -> str:
    ends = sorted((_printed(low, measure), _printed(high, measure)))
    digits = measure.digits
    return f"{ends[0]:.{digits}f} to {ends[1]:.{digits}f}"


def comparison_table(records: Records, table: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Differences as they are printed; where one seed leaves the spread between runs unknown, with the noise of the
    evaluations alone as far as it is known."""
    scale, digits = records.metric(metric).scale, records.metric(metric).digits
    names = FAMILY_TITLES | {name: model.title for name, model in records.models.items()}
    return pd.DataFrame(
        {
            "A": table["model_a"].map(lambda name: names.get(name, name)),
            "B": table["model_b"].map(lambda name: names.get(name, name)),
            "at": [cost_text(kind, at) for kind, at in zip(table["matched"], table["at"], strict=True)],
            "A mean": (scale * table["mean_a"]).map(f"{{:.{digits}f}}".format),
            "B mean": (scale * table["mean_b"]).map(f"{{:.{digits}f}}".format),
            "A - B": (scale * table["difference"]).map(f"{{:+.{digits}f}}".format),
            "90 % interval": [
                interval_text(low, high, records.metric(metric), alone)
                for low, high, alone in zip(table["low"], table["high"], table["evaluation_alone"], strict=True)
            ],
            "P(A better)": table["p_a_better"].map(lambda p: chance_text(p) or "-"),
            "paired seeds": table["pairs"],
        }
    )


EVALUATION_ALONE = "evaluation alone"


def interval_text(low: float, high: float, measure: Metric, evaluation_alone: float = math.nan) -> str:
    """Ends of a difference in stored units as printed. Where the spread is unknown, what `evaluation_alone` adds to
    both sides, or `-`."""
    if not math.isnan(low):
        return f"{measure.text(low, '+')} to {measure.text(high, '+')}"
    return "-" if math.isnan(evaluation_alone) else f"± {measure.text(evaluation_alone)}, {EVALUATION_ALONE}"


def alone_note(table: pd.DataFrame) -> str:
    """What EVALUATION_ALONE means; empty where no row of a table of comparisons has it."""
    if not (table["low"].isna() & table["evaluation_alone"].notna()).any():
        return ""
    return (
        "One seed leaves the spread between runs unknown: '± …, evaluation alone' is the noise of the two evaluations, "
        "as if the models erred independently; what they share makes it smaller, and other seeds are not in it"
    )


def crossover_table(records: Records, table: pd.DataFrame) -> pd.DataFrame:
    """Crossovers in words and numbers."""
    names = {name: model.title for name, model in records.models.items()}
    rows = []
    for row in table.itertuples():
        rows.append(
            {
                "ahead at first": names[row.earlier],
                "behind at first": names[row.later],
                "verdict": row.verdict,
                "crossover, images": "-" if math.isnan(row.size) else count_text(row.size),
                "90 % interval": _size_interval(row.low, row.high),
                "P(first ahead at first)": chance_text(row.p_earlier_at_first),
                "P(second ahead at last)": chance_text(row.p_later_at_last),
                "P(crossed in the data)": chance_text(row.p_crossed_in_data),
                "P(crossed by the end)": chance_text(row.p_crossed_by_end),
                "searched to": count_text(row.end),
            }
        )
    return pd.DataFrame(rows)


def _size_interval(low: float, high: float) -> str:
    if math.isnan(low):
        return "-"
    if math.isinf(low):
        return "beyond the search"
    return f"{count_text(low)} to " + ("beyond the search" if math.isinf(high) else count_text(high))
