"""The section on matched compute: who is ahead at which budget and data size, over all budgets of the records."""

from dataclasses import dataclass, field, replace

import pandas as pd

from analysis.comparison.equal_compute import (
    COST_TOLERANCE,
    at_equal_compute,
    budgets,
    curves_by_size,
    frontier,
    leaders,
)
from analysis.figures.canvas.drawing import present
from analysis.figures.compute.compute_map import compute_map
from analysis.figures.compute.matched_compute import compute_panels
from analysis.report.law_tables import alone_note, interval_text
from analysis.report.page import PageTable, Section
from analysis.runs.conditions import budget_names
from analysis.runs.load import Records
from analysis.runs.ways import measured_as
from scaling.readable import chance_text, count_text, share_text

_SETTING = ("data_digest", "val_digest", "batch")
"""Columns in which runs must agree to be compared over budgets, beside how the metric was measured."""


@dataclass(frozen=True, slots=True)
class ComputePart:
    """What is said about matched compute, and about which conditions."""

    sections: list[Section] = field(default_factory=list)
    conditions: set[str] = field(default_factory=set)
    """Conditions with runs that are compared here."""
    saved: dict[str, pd.DataFrame] = field(default_factory=dict)
    """Tables in stored units, by file name without ending."""
    papers: dict[str, PageTable] = field(default_factory=dict)


def compute_part(records: Records, metric: str) -> ComputePart:
    """Every group of runs that share data, batch and how the metric was measured; nothing where no two models can be
    compared."""
    part = ComputePart()
    keys = [name for name in _SETTING if name in records.runs]
    if "data" in records.runs and "data_digest" not in keys:
        keys.append("data")  # A table of others has names alone.
    columns = [records.runs[name] for name in keys] + [measured_as(records.runs, metric)]
    # A table may leave the batch of some runs empty.
    groups = [runs for _, runs in records.runs.groupby(columns, sort=True, dropna=False)]
    for runs in groups:
        suffix = f"_{len(part.sections) + 1}" if part.sections else ""
        own = replace(records, runs=runs.reset_index(drop=True), suffix=suffix)
        table = at_equal_compute(own, metric)
        planned = "protocol" in runs and (runs["protocol"] == "matched_compute").any()
        # One condition of another protocol is compared between its sizes and families in a section of its own.
        if len(table) and (planned or runs["condition"].nunique() > 1 or (table["kind"] == "measured").any()):
            _add(part, own, table, metric, heading=_heading(runs) if len(groups) > 1 else "")
    return part


def _add(part: ComputePart, records: Records, table: pd.DataFrame, metric: str, *, heading: str) -> None:
    ahead, best = leaders(records, metric, table), frontier(records, metric, table)
    title = records.metric(metric).title
    tables = {}
    if len(ahead):
        tables["matched_compute_leaders"] = PageTable(
            f"Ahead at each budget and subset size: {title}", leader_table(records, ahead, metric)
        )
        tables["matched_compute_frontier"] = PageTable(
            f"Iso-compute frontier, the best model and subset of each budget: {title}",
            leader_table(records, best, metric),
        )
    tables["matched_compute"] = PageTable(f"{title} at matched compute", pair_table(records, table, metric)).shortened(
        "matched_compute.csv"
    )
    drawings = present(
        compute_map(records, ahead, best, metric),
        compute_panels(records, curves_by_size(records, metric), table, metric),
    )
    text = _text(records, table, metric)
    part.sections.append(Section("Matched compute", text, drawings, tuple(tables.values())).under(heading))
    compared = table[["model_a", "model_b"]].to_numpy().ravel()
    part.conditions.update(records.runs.loc[records.runs["model"].isin(compared), "condition"])
    for name, frame in (("", table), ("_leaders", ahead), ("_frontier", best)):
        if len(frame):
            part.saved[f"matched_compute{name}{records.suffix}"] = frame
    part.papers.update({f"{name}{records.suffix}": tables[name] for name in tables if name != "matched_compute"})


def leader_table(records: Records, ahead: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Rows of `leaders` or `frontier` as they are printed."""
    measure = records.metric(metric)
    name_of = _names(ahead)
    rows = []
    for row in ahead.itertuples():
        second = records.models[row.second].title
        if row.second_num_images != row.num_images:
            second += f", {count_text(row.second_num_images)} images"
        rows.append(
            {
                "FLOPs": name_of[row.budget],
                "images": count_text(row.num_images),
                "ahead": records.models[row.ahead].title,
                "mean": measure.text(row.mean),
                "second": second,
                "its mean": measure.text(row.second_mean),
                "difference": measure.text(row.difference, "+"),
                "90 % interval": interval_text(row.low, row.high, measure, row.evaluation_alone),
                "P(better)": chance_text(row.p_better) or "-",
                "paired seeds": row.pairs,
            }
        )
    return pd.DataFrame(rows)


def pair_table(records: Records, table: pd.DataFrame, metric: str) -> pd.DataFrame:
    """EQUAL_COLUMNS as they are printed."""
    measure = records.metric(metric)
    name_of = _names(table)
    rows = []
    for row in table.itertuples():
        rows.append(
            {
                "A": records.models[row.model_a].title,
                "B": records.models[row.model_b].title,
                "FLOPs": name_of[row.budget],
                "images": count_text(row.num_images),
                "costs": f"equal to {share_text(row.cost_spread)}" if row.kind == "measured" else "interpolated",
                "A mean": measure.text(row.mean_a),
                "B mean": measure.text(row.mean_b),
                "A - B": measure.text(row.difference, "+"),
                "90 % interval": interval_text(row.low, row.high, measure, row.evaluation_alone),
                "P(A better)": chance_text(row.p_a_better) or "-",
                "paired seeds": row.pairs,
            }
        )
    return pd.DataFrame(rows)


def _names(table: pd.DataFrame) -> dict[float, str]:
    levels = sorted(table["budget"].unique())
    return dict(zip(levels, budget_names(levels), strict=True))


def _text(records: Records, table: pd.DataFrame, metric: str) -> str:
    levels = budgets(records, metric)
    if not levels:
        return (
            "No two models were trained at the same cost; their values are interpolated in the log of the compute, "
            "inside the costs that both measured."
        )
    listed = ", ".join(f"{level.name} FLOPs (costs equal to {share_text(level.spread)})" for level in levels)
    text = (
        f"Runs whose training compute agrees within {100 * COST_TOLERANCE:g} % are compared directly, on equal "
        f"subsets: {listed}."
    )
    if (table["kind"] == "interpolated").any():
        text += " Between two costs, each seed's values are joined by a straight line in the log of the compute."
    text += f" {alone_note(table)}." if alone_note(table) else ""
    return text + (
        " Intervals and P(better) are over seeds, paired, with the spread pooled over the subset sizes of a budget; "
        "the two models of a row of leaders were picked by their means, so that its P(better) is a little too sure."
    )


def _heading(runs: pd.DataFrame) -> str:
    """What these runs share, for a heading."""
    parts = [str(runs["data"].iloc[0])] if "data" in runs else []
    parts += [f"batch {runs['batch'].iloc[0]}"] if "batch" in runs else []
    return ", ".join(parts)
