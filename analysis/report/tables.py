"""The study's main table, model × subset size, and tables as text, Markdown, LaTeX and CSV."""

import re
from collections.abc import Sequence

import pandas as pd

from analysis.runs.caveats import changed_runs, mark_of
from analysis.runs.load import Records
from scaling.readable import (
    count_text,
    devices_text,
    num_columns,
    number_text,
    padded,
    percent_text,
    power_text,
    spread_text,
)
from scaling.records.scores.price import money_text

_LATEX = str.maketrans(
    {character: "\\" + character for character in "%&_#${}"}
    | {"\\": r"\textbackslash{}", "^": r"\^{}", "~": r"\~{}", "<": "$<$", ">": "$>$"}
    | {"±": r"$\pm$", "×": r"$\times$", "·": r"$\cdot$", "⁻": "$^{-}$", "†": r"$\dagger$", "—": "---"}
    | {character: f"$^{digit}$" for digit, character in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")}
)

_PLACE = ["device", "precision", "num_devices"]
"""Columns that device-hours must share to be added or averaged."""


def size_table(records: Records, table: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Model × subset size with `mean ± sd (n)` in each cell, marked where a run of it changed its execution
    (`analysis.runs.caveats`); `-` where no run is finished."""
    measure = records.metric(metric)
    sizes = sorted(set(table["num_images"]))
    headings = {size: _heading(table, size) for size in sizes}
    changed = changed_runs(records)
    rows = []
    for model, cells in table.groupby("model", sort=False):
        by_size = cells.set_index("num_images")
        row = {"model": records.models[str(model)].title}
        for size in sizes:
            if size in by_size.index:
                cell = by_size.loc[size]
                text = spread_text(measure.scale * cell["mean"], measure.scale * cell["sd"], measure.digits)
                row[headings[size]] = f"{text} ({cell['num_runs']}){mark_of(changed, cell['run_ids'])}"
            else:
                row[headings[size]] = "-"
        rows.append(row)
    return pd.DataFrame(rows)


def size_table_tips(records: Records, table: pd.DataFrame) -> pd.DataFrame:
    """The runs behind each cell of `size_table`, in its shape."""
    sizes = sorted(set(table["num_images"]))
    rows = []
    for model, cells in table.groupby("model", sort=False):
        runs = cells.set_index("num_images")["run_ids"]
        rows.append([records.models[str(model)].name, *(str(runs.get(size, "")).replace(" ", "\n") for size in sizes)])
    return pd.DataFrame(rows, columns=["model", *(_heading(table, size) for size in sizes)])


def speed_table(records: Records, rows: pd.DataFrame) -> pd.DataFrame:
    """Images per second of each model in one place (`analysis.runs.speeds`), and what disturbed the measurement."""
    unit = "timings" if rows["source"].iloc[0] == "alone" else "runs"
    spread = "quartiles" if unit == "timings" else "range"
    ordered = rows.assign(order=[records.models[str(model)] for model in rows["model"]]).sort_values("order")
    printed = pd.DataFrame(
        {
            "model": [records.models[str(model)].title for model in ordered["model"]],
            "images/s": [number_text(value) for value in ordered["throughput_median"]],
            spread: [
                f"{number_text(low)} to {number_text(high)}"
                for low, high in zip(ordered["throughput_low"], ordered["throughput_high"], strict=True)
            ],
            unit: [str(count) for count in ordered["throughput_count"]],
        }
    )
    if unit == "timings":
        printed["batch"] = [str(batch) for batch in ordered["batch"]]
        printed["machine"] = [f"busy: {words}" if words else "quiet" for words in ordered["disturbances"]]
        printed["software"] = list(ordered["software"])
    return printed


def cost_table(records: Records) -> pd.DataFrame:
    """What the runs of each model cost: compute, device time, and money and energy where they are known of all of its
    runs; blank where they are not. Where runs were trained on several kinds or numbers of devices, a row for each, with
    column `trained on`: their times are no parts of one amount."""
    runs, rows = records.runs, []
    places = runs.groupby(_PLACE, dropna=False).ngroups if set(_PLACE) <= set(runs) else 1
    currencies = sorted(set(runs["currency"]) - {""}) if "currency" in runs else []
    for (model, *place), group in runs.groupby(["model", *(_PLACE if places > 1 else [])], sort=False, dropna=False):
        row = {"model": records.models[str(model)].title}
        if place:
            row["trained on"] = devices_text(*place)
        row["runs"] = str(len(group))
        row["train FLOPs in all"] = power_text(group["flops"].sum()) if _is_whole(group, "flops") else ""
        hours = group["device_hours"] if _is_whole(group, "device_hours") else None
        row["device-hours a run"] = "" if hours is None else number_text(hours.mean())
        row["device-hours in all"] = "" if hours is None else number_text(hours.sum())
        for currency in currencies:
            priced = _is_whole(group, "money") and set(group["currency"]) == {currency}
            row[f"{currency} in all"] = money_text(group["money"].sum(), "").rstrip() if priced else ""
        if "energy_joules" in runs and runs["energy_joules"].notna().any():
            whole = _is_whole(group, "energy_joules")
            row["energy in all, kWh"] = number_text(group["energy_joules"].sum() / 3.6e6) if whole else ""
        rows.append(row)
    return pd.DataFrame(rows)


def _is_whole(runs: pd.DataFrame, column: str) -> bool:
    """Whether every run tells this cost."""
    return column in runs and bool((runs[column] > 0).all())


def latex(table: pd.DataFrame, caption: str, label: str) -> str:
    """A booktabs table for a paper."""
    columns = "l" + "r" * (len(table.columns) - 1)
    lines = [" & ".join(map(latex_text, row)) + r" \\" for row in [list(table.columns), *table.to_numpy().tolist()]]
    return "\n".join(
        [r"\begin{table}", r"\centering", rf"\begin{{tabular}}{{{columns}}}", r"\toprule", lines[0], r"\midrule",
         *lines[1:], r"\bottomrule", r"\end{tabular}", rf"\caption{{{latex_text(caption)}}}",
         rf"\label{{{label}}}", r"\end{table}", ""]
    )  # fmt: skip


def latex_text(value: object) -> str:
    """The text with its special characters as LaTeX writes them."""
    return str(value).translate(_LATEX)


def _heading(table: pd.DataFrame, size: float) -> str:
    shares = set(table.loc[table["num_images"] == size, "fraction"])
    return count_text(size) + (f" ({percent_text(shares.pop())})" if len(shares) == 1 else "")


def plain_text(table: pd.DataFrame) -> str:
    """Columns in line, the first to the left and the others to the right."""
    cells = [
        [str(name) for name in table.columns],
        *([str(value) for value in row] for row in table.to_numpy()),
    ]
    widths = [max(num_columns(row[column]) for row in cells) for column in range(len(table.columns))]
    lines = [_line(row, widths) for row in cells]
    return "\n".join([lines[0], "-" * num_columns(lines[0]), *lines[1:]])


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    cells = [
        padded(row[0], widths[0]),
        *(padded(text, width, to_the_right=True) for text, width in zip(row[1:], widths[1:], strict=True)),
    ]
    return "  ".join(cells).rstrip()


def plain_markdown(text: str) -> str:
    """The text on one line, without a tag or a link that a reader of Markdown would follow."""
    return re.sub(r"<(?=[A-Za-z/!?])", "&lt;", " ".join(text.split("\n"))).replace("](", "]\\(")


def markdown(table: pd.DataFrame) -> str:
    """A Markdown table; bars inside cells are escaped."""

    def line(values: Sequence[object]) -> str:
        return "| " + " | ".join(plain_markdown(str(value)).replace("|", "\\|") for value in values) + " |"

    rule = "| --- |" + " ---: |" * (len(table.columns) - 1)
    return "\n".join([line(list(table.columns)), rule, *(line(list(row)) for row in table.to_numpy())])
