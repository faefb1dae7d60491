"""The sections of a report: what is drawn, tabulated and said about the runs of one condition.

Nothing is written here; `analysis.report.make_report` saves what these functions return.
"""

from dataclasses import dataclass

import pandas as pd

from analysis.comparison.compare import COLUMNS, at_matched_data
from analysis.comparison.crossover import crossovers
from analysis.comparison.matched_cost import (
    at_matched_cost,
    at_matched_speed,
    family_curves,
    model_curves,
    unclear_families,
)
from analysis.comparison.noise_apart import NoiseApart
from analysis.figures.accuracy_vs_setting import accuracy_vs_setting
from analysis.figures.accuracy_vs_size import accuracy_vs_size
from analysis.figures.accuracy_vs_throughput import accuracy_vs_throughput
from analysis.figures.canvas.drawing import Drawing, present
from analysis.figures.compute.accuracy_vs_cost import accuracy_vs_cost
from analysis.figures.compute.evaluation_costs import evaluations_vs_compute, evaluations_vs_throughput
from analysis.figures.compute.matched_compute import matched_compute
from analysis.figures.evaluations import evaluation_figure, evaluation_matrix
from analysis.figures.law_fits import law_fits
from analysis.figures.learning_curves import learning_curves, overfit_figure
from analysis.figures.matched import differences_figure
from analysis.figures.published import beside_published
from analysis.laws.law import Law
from analysis.laws.study_laws import study_laws
from analysis.published.tables import PUBLISHED_METRIC, figure_2_records
from analysis.report.law_tables import alone_note, comparison_table, crossover_table, law_table, prediction_table
from analysis.report.page import PageTable, Section
from analysis.report.tables import cost_table, size_table, size_table_tips, speed_table
from analysis.report.transfer_section import agreement_section
from analysis.runs.caveats import changes_note, unfair_note
from analysis.runs.evaluations import chance_text_of, evaluation_metrics, noise_text
from analysis.runs.load import Records
from analysis.runs.naming import FAMILY_TITLES
from analysis.runs.speeds import places, speeds
from analysis.runs.summary import cells, runs_behind, runs_of_cells
from scaling.readable import named

_ROUNDING = 1e-9
"""Of a difference of means, in stored units."""

_MAX_NAMED = 6
"""Series named in a sentence."""

CELL_TEXT = "mean ± standard deviation over runs (number of runs)"
_MATCHED_NAMES = {"images": "data", "flops": "compute"}
_FORMULAE_NOTE = "e: floor, c: exponent, x: distinct images; errors are fractions."
_NO_MATCHED_COMPUTE = (
    "Matched compute: under this protocol each model was trained at one cost only and no two families have a common "
    "range of FLOPs to interpolate in; nothing is extrapolated. A matched_compute study answers that question."
)


@dataclass(frozen=True, slots=True)
class Part:
    """What a report says about one condition."""

    sections: list[Section]
    main_table: pd.DataFrame
    """Model × size as printed."""
    laws: dict[str, Law]
    saved: dict[str, pd.DataFrame]
    """Tables in stored units, by file name without ending."""
    papers: dict[str, PageTable]
    """Tables for a paper, by file name without ending."""


def condition_part(
    records: Records,
    rows: pd.DataFrame,
    metric: str,
    *,
    heading: str = "",
    published: bool = False,
    has_equal_compute: bool = False,
) -> Part:
    """Figures and tables of runs that differ in model, size and seed alone; `rows` are their logs.

    `has_equal_compute`: the report has a section on matched compute with these runs.
    """
    table = cells(records, metric)
    main_table = size_table(records, table, metric)
    main = PageTable(f"{records.metric(metric).title}: {CELL_TEXT}", main_table, size_table_tips(records, table))
    laws, lawless = study_laws(records, metric)
    crossed = crossovers(records, metric, laws)
    compute, compute_drawings = _compute_comparisons(records, metric)
    speed = at_matched_speed(records, metric)
    matched = pd.concat([t for t in (at_matched_data(records, metric), compute, speed) if len(t)] or [compute])
    matched = matched.reset_index(drop=True)
    law_tables = _law_tables(records, metric, laws, lawless, crossed)
    beside = (
        beside_published(records, table, cells(figure_2_records(), PUBLISHED_METRIC), metric) if published else None
    )
    agreement, agreed = agreement_section(records, metric)
    sections = [
        Section(
            "Accuracy and pre-training size",
            " ".join(filter(None, _notes(records, metric))),
            present(accuracy_vs_setting(records, metric) or accuracy_vs_size(records, table, metric), beside),
            (main,),
        ),
        _evaluation_section(records, metric),
        *([agreement] if agreement is not None else []),
        _throughput_section(records, table, metric),
        _cost_section(records, metric),
        _comparison_section(records, metric, matched, compute_drawings, has_equal_compute),
        Section(
            "Laws and crossovers",
            drawings=present(law_fits(records, laws, metric) if laws else None),
            tables=tuple(law_tables.values()),
        ),
        Section("Training", drawings=present(overfit_figure(records), learning_curves(records, rows))),
    ]
    saved = {"cells": table, "comparisons": matched, "crossovers": crossed}
    if agreement is not None:
        saved["rank_agreement_pairs"] = agreed
    if laws:
        saved |= {"laws": law_table(records, laws), "predictions": law_tables["predictions"].table}
    return Part(
        [section.under(heading) for section in sections if section.drawings or section.tables],
        main_table,
        laws,
        saved,
        {"cells": main}
        | {name: law_tables[name] for name in ("laws", "predictions", "crossovers") if name in law_tables},
    )


def _notes(records: Records, metric: str) -> tuple[str, ...]:
    """What a reader of the main figure should know, most important first; empty where there is nothing to say."""
    return (
        unfair_note(records),
        chance_text_of(records, metric),
        noise_text(records, metric),
        changes_note(records),
    )


def _evaluation_section(records: Records, headline: str) -> Section:
    """A figure and a table of every other evaluation, after a matrix of all of them."""
    metrics = evaluation_metrics(records)
    others = [name for name in metrics if name != headline]
    drawings, tables = list(present(evaluation_matrix(records, [headline, *others]))), []
    for name in others:
        table = cells(records, name)
        drawings.append(evaluation_figure(records, table, name))
        caption = " ".join([f"{records.metric(name).title}: {CELL_TEXT}.", chance_text_of(records, name)]).strip()
        tables.append(PageTable(caption, size_table(records, table, name), size_table_tips(records, table)))
    return Section("All evaluations", drawings=tuple(drawings), tables=tuple(tables))


def _throughput_section(records: Records, table: pd.DataFrame, metric: str) -> Section:
    """Where throughput was measured in several ways, a figure and a table of each, and a sentence that says so."""
    drawings = accuracy_vs_throughput(records, table, metric) + evaluations_vs_throughput(
        records, _all(records, metric)
    )
    groups = places(speeds(records))
    text = ""
    if len(groups) > 1:
        text = (
            f"Throughput was measured in {len(groups)} ways, which are never compared: "
            f"{'; '.join(where for where, _ in groups)}."
        )
    tables = [PageTable(f"Throughput, {where}", speed_table(records, rows)) for where, rows in groups]
    return Section("Throughput and accuracy", text, tuple(drawings), tuple(tables))


def _cost_section(records: Records, metric: str) -> Section:
    drawings = accuracy_vs_cost(records, metric)
    others = evaluations_vs_compute(records, _all(records, metric))
    caption = "Cost of the runs of each model: training with its validations, without searches and evaluations"
    tables = (PageTable(caption, cost_table(records)),) if "flops" in records.runs else ()
    return Section("Cost and accuracy", drawings=(*drawings, *present(others)), tables=tables)


def _all(records: Records, headline: str) -> list[str]:
    """The headline metric and every other one of an evaluation."""
    return [headline, *(name for name in evaluation_metrics(records) if name != headline)]


def _compute_comparisons(records: Records, metric: str) -> tuple[pd.DataFrame, tuple[Drawing, ...]]:
    """Models, and families between their models, at matched compute, with a figure of each."""
    tables = [pd.DataFrame(columns=COLUMNS)]
    drawings: list[Drawing | None] = []
    for curves, name, facts in (
        (model_curves(records, metric, "flops"), "matched_compute", "models trained at several costs"),
        (family_curves(records, metric, "flops"), "matched_compute_families", "families between their models"),
    ):
        table = at_matched_cost(curves, "flops", records.metric(metric))
        if len(table):
            tables.append(table)
            drawings.append(matched_compute(records, curves, table, metric, name=name, facts=facts))
    return pd.concat(tables[1:] or tables, ignore_index=True), present(*drawings)


def _comparison_section(
    records: Records,
    metric: str,
    matched: pd.DataFrame,
    compute_drawings: tuple[Drawing, ...],
    has_equal_compute: bool,
) -> Section:
    tables = []
    drawings: list[Drawing] = []
    for kind, rows in matched.groupby("matched", sort=True):
        name = _MATCHED_NAMES.get(str(kind), f"throughput{str(kind).partition('images_per_second')[2]}")
        if kind == "images":
            drawings += present(differences_figure(records, rows, metric, name))
        printed = comparison_table(records, rows, metric)
        told = _unequal_text(rows) + _apart_text(records, rows, metric)
        told += f". {alone_note(rows)}" if alone_note(rows) else ""
        tables.append(
            PageTable(
                f"{records.metric(metric).title} at matched {name}{told}",
                printed,
                _pair_tips(records, rows, printed, metric),
            ).shortened("comparisons.csv")
        )
    lacks_compute = "flops" in records.runs and "flops" not in set(matched["matched"])
    text = _unclear_text(records, metric)
    if lacks_compute and not has_equal_compute and not text:
        text = _NO_MATCHED_COMPUTE
    return Section("Models compared", text, (*drawings, *compute_drawings), tuple(tables))


def _unclear_text(records: Records, metric: str) -> str:
    """Which families are not compared between their models, and why; empty where all are."""
    unclear = unclear_families(records, metric)
    if not unclear:
        return ""
    told = []
    for family, names in unclear.items():
        titles = [records.models[name].title for name in names]
        told.append(f"{FAMILY_TITLES.get(family, family)} ({named(titles, _MAX_NAMED)})")
    return (
        f"Left out where families are compared at matched compute and throughput: {'; '.join(told)}. Nothing says "
        "which of these series stands for its family at a model or a cost, and the best of several would be favoured; "
        "a report with one series of each model compares the families."
    )


def _unequal_text(rows: pd.DataFrame) -> str:
    """Why differences are not those of the means beside them, where that is so."""
    apart = ((rows["mean_a"] - rows["mean_b"]) - rows["difference"]).abs() > _ROUNDING
    if not apart.any():
        return ""
    return (
        f". In {int(apart.sum())} of {len(rows)} rows A - B is not the difference of the means: the two models have "
        "unequal seeds, each mean is over all runs of its model, and A - B is over the paired seeds alone"
    )


def _apart_text(records: Records, rows: pd.DataFrame, metric: str) -> str:
    """What evaluations that the models do not share do to the intervals."""
    data = rows[rows["matched"] == "images"]
    told = NoiseApart(records, metric).text(data) if len(data) else ""
    return f". {told}" if told else ""


def _pair_tips(records: Records, rows: pd.DataFrame, printed: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The runs behind both means of each pair at matched data; nothing where the means are interpolated."""
    tips = pd.DataFrame("", index=range(len(printed)), columns=printed.columns)
    behind = runs_of_cells(records, metric)
    for column, models in (("A mean", rows["model_a"]), ("B mean", rows["model_b"])):
        tips[column] = [
            behind[str(model), at] if matched == "images" else ""
            for matched, model, at in zip(rows["matched"], models, rows["at"], strict=True)
        ]
    return tips


def _law_tables(
    records: Records, metric: str, laws: dict[str, Law], lawless: pd.DataFrame, crossed: pd.DataFrame
) -> dict[str, PageTable]:
    tables = {}
    if laws:
        printed = law_table(records, laws)
        tips = pd.DataFrame("", index=printed.index, columns=printed.columns)
        tips["runs used"] = [runs_behind(records, metric, model, *law.window) for model, law in laws.items()]
        tables["laws"] = PageTable(f"Laws. {_FORMULAE_NOTE}", printed, tips)
        predictions = prediction_table(records, laws, metric)
        tables["predictions"] = PageTable(f"Predictions of {records.metric(metric).title}", predictions)
    if len(crossed):
        text = (
            "Crossovers: P(first ahead at the smallest common size and second at the largest, or at the end of the "
            "search); inside the data by interpolation of means, beyond it by the laws, at most two doublings"
        )
        tables["crossovers"] = PageTable(text, crossover_table(records, crossed)).shortened("crossovers.csv")
    if len(lawless):
        tables["lawless"] = PageTable("Models without a law", lawless)
    return tables
