"""Records in, report out: draws, tabulates and writes all files of one report.

Runs of different conditions (`analysis.conditions`) get sections of their own; the files of the first carry no suffix.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from analysis.compare import at_matched_data
from analysis.crossover import crossovers
from analysis.drawing import Drawing
from analysis.figures.accuracy_vs_cost import accuracy_vs_cost
from analysis.figures.accuracy_vs_size import accuracy_vs_size
from analysis.figures.accuracy_vs_throughput import accuracy_vs_throughput, throughput_column
from analysis.figures.law_fits import law_fits
from analysis.figures.learning_curves import learning_curves
from analysis.figures.matched import differences_figure
from analysis.figures.overfit import overfit_figure, with_gap
from analysis.figures.published import beside_published, published_figure_3
from analysis.law_tables import comparison_table, crossover_table, law_table, prediction_table
from analysis.laws.law import Law
from analysis.load import EXCLUDED_COLUMNS, Records
from analysis.matched_cost import families_at_matched_cost, models_at_matched_cost
from analysis.methods import methods_text
from analysis.metrics import display_scale, headline_for, metric_title
from analysis.published.tables import PUBLISHED_METRIC, figure_2_records
from analysis.report.page import PageTable, Section, write_page
from analysis.rows import read_rows
from analysis.study_laws import study_laws
from analysis.style import drawing_style
from analysis.summary import cells, runs_without
from analysis.tables import latex, plain_text, save_csv, size_table, size_table_tips

_MAX_PRINTED = 20
"""Left-out runs named on the screen; the files name all."""
MATCHED_NAMES = {"images": "data", "flops": "compute"}
_FORMULAE_NOTE = "e: floor, c: exponent, x: distinct images; errors are fractions."


@dataclass(frozen=True, slots=True)
class Report:
    """What was written and what to tell the user."""

    files: list[Path]
    words: str


def make_report(records: Records, out: Path, wanted_metric: str | None, *, published: bool = False) -> Report:
    """Write the report of `records` into folder `out`, made when missing."""
    metric = headline_for(records.runs, records.eval_order, wanted_metric)
    excluded = pd.concat([records.excluded, runs_without(records, metric)], ignore_index=True)[EXCLUDED_COLUMNS]
    out.mkdir(parents=True, exist_ok=True)
    arrow_rows, lost_rows = read_rows(records.run_dirs.values())
    rows = arrow_rows.to_pandas()
    records = replace(records, runs=with_gap(records, rows))
    files: list[Path] = []
    sections: list[Section] = []
    words: list[str] = []
    conditions = sorted(records.runs.loc[records.runs[metric].notna(), "condition"].unique())
    laws: dict[str, Law] = {}
    with drawing_style():
        for rank, condition in enumerate(conditions):
            part = records.of_condition(condition, f"_{rank + 1}" if rank else "")
            heading = f"{condition}: " if len(conditions) > 1 else ""
            own = _condition_sections(part, rows, metric, heading, out, files, published)
            sections += own.sections
            laws |= own.laws
            words += [f"{condition}" if len(conditions) > 1 else "", plain_text(own.main_table), ""]
        if len(conditions) > 1:
            sections += _across_budgets(records, metric)
        if published:
            sections.append(_published_section())
        sections += _closing_sections(records, metric, excluded, laws, lost_rows)
        files += [path for section in sections for drawing in section.drawings for path in drawing.save(out)]
        files += _save_tables(records, excluded, arrow_rows, out)
        title = " + ".join(sorted(records.runs["study"].unique()))
        files += write_page(title, _counts(records, excluded), sections, out)
    return Report(files, "\n".join([*_opening_words(metric), *words, *_closing_words(excluded, files)]))


@dataclass(frozen=True, slots=True)
class _Part:
    sections: list[Section]
    main_table: pd.DataFrame
    laws: dict[str, Law]


def _condition_sections(
    records: Records, rows: pd.DataFrame, metric: str, heading: str, out: Path, files: list[Path], published: bool
) -> _Part:
    """The sections of one condition; its tables are written, its drawings are left to the caller."""
    table = cells(records, metric)
    main_table = size_table(records, table, metric)
    laws, lawless = study_laws(records, metric)
    matched = _comparisons(records, metric)
    crossed = crossovers(laws)
    suffix = records.suffix
    saved = {"cells": table, "comparisons": matched, "crossovers": crossed}
    if laws:
        saved |= {"laws": law_table(records, laws), "predictions": prediction_table(records, laws, metric)}
    files += [save_csv(frame, out / f"{name}{suffix}.csv") for name, frame in saved.items()]
    files += _save_latex(records, metric, main_table, saved, crossed, out, suffix)
    cell_text = f"{metric_title(metric)}: mean ± standard deviation over runs (number of runs)"
    sections = [
        Section(
            f"{heading}Accuracy and pre-training size",
            drawings=_present(
                accuracy_vs_size(records, table, metric),
                beside_published(records, table, _published_cells(), metric) if published else None,
            ),
            tables=(PageTable(cell_text, main_table, size_table_tips(records, table)),),
        ),
        Section(f"{heading}Throughput and accuracy", drawings=tuple(accuracy_vs_throughput(records, table, metric))),
        Section(f"{heading}Cost and accuracy", drawings=tuple(accuracy_vs_cost(records, metric))),
        _comparison_section(records, metric, matched, heading),
        _law_section(records, metric, saved, laws, lawless, crossed, heading),
        Section(
            f"{heading}Training", drawings=_present(overfit_figure(records), learning_curves(records, rows))
        ),
    ]  # fmt: skip
    return _Part([section for section in sections if section.drawings or section.tables], main_table, laws)


def _comparisons(records: Records, metric: str) -> pd.DataFrame:
    """Models at matched data and compute, families at matched compute and throughput, where ranges overlap."""
    parts = [
        at_matched_data(records, metric),
        models_at_matched_cost(records, metric, "flops"),
        families_at_matched_cost(records, metric, "flops"),
        families_at_matched_cost(records, metric, throughput_column(records)),
    ]
    return pd.concat([part for part in parts if len(part)] or parts[:1], ignore_index=True)


def _across_budgets(records: Records, metric: str) -> list[Section]:
    """Models at matched compute over the budgets of all conditions that share data and evaluations."""
    same = [name for name in ("data_digest", "evals") if name in records.runs]
    if any(records.runs[name].nunique() > 1 for name in same):
        return []
    table = models_at_matched_cost(records, metric, "flops")
    if table.empty:
        return []
    text = f"{metric_title(metric)} at matched compute, over all budgets"
    return [Section("Matched compute", tables=(PageTable(text, comparison_table(records, table, metric)),))]


def _comparison_section(records: Records, metric: str, matched: pd.DataFrame, heading: str) -> Section:
    tables = []
    drawings = []
    for kind, rows in matched.groupby("matched", sort=True):
        name = MATCHED_NAMES.get(str(kind), "throughput")
        drawing = differences_figure(records, rows, metric, name)
        if drawing is not None:
            drawings.append(drawing)
        text = f"{metric_title(metric)} at matched {name}"
        tables.append(PageTable(text, comparison_table(records, rows, metric)))
    text = ""
    if "flops" in records.runs and "flops" not in set(matched["matched"]):
        text = (
            "Matched compute: under this protocol each model was trained at one cost only and no two families have a "
            "common range of FLOPs to interpolate in; nothing is extrapolated. A matched_compute study answers that "
            "question."
        )
    return Section(f"{heading}Models compared", text, tuple(drawings), tuple(tables))


def _law_section(
    records: Records, metric: str, saved: dict[str, pd.DataFrame], laws: dict[str, Law], lawless: pd.DataFrame,
    crossed: pd.DataFrame, heading: str
) -> Section:  # fmt: skip
    tables = []
    if laws:
        tables.append(PageTable(f"Laws. {_FORMULAE_NOTE}", saved["laws"]))
        tables.append(PageTable(f"Predictions of {metric_title(metric)}", saved["predictions"]))
    if len(crossed):
        text = "Crossovers: inside the data by interpolation of means, beyond it by the laws, at most two doublings"
        tables.append(PageTable(text, crossover_table(records, crossed)))
    if len(lawless):
        tables.append(PageTable("Models without a law", lawless))
    return Section(
        f"{heading}Laws and crossovers", drawings=_present(law_fits(records, laws, metric) if laws else None),
        tables=tuple(tables)
    )  # fmt: skip


def _closing_sections(
    records: Records, metric: str, excluded: pd.DataFrame, laws: dict[str, Law], lost_rows: dict[str, tuple[int, int]]
) -> list[Section]:
    sections = [Section("Methods", methods_text(records, metric, laws, len(excluded)))]
    if len(excluded):
        table = PageTable("Runs left out. No number above comes from them.", excluded)
        sections.append(Section("Runs left out", tables=(table,)))
    tables = [PageTable("One row per finished run; all columns are in runs.csv.", _run_table(records, metric))]
    if lost_rows:
        lost = pd.DataFrame(
            [(run, superseded, torn) for run, (superseded, torn) in lost_rows.items()],
            columns=["run_id", "superseded rows", "torn lines"],
        )
        tables.append(PageTable("Log rows left out: work that a resumed run did again, half-written lines.", lost))
    sections.append(Section("Runs", tables=tuple(tables)))
    return sections


def _run_table(records: Records, metric: str) -> pd.DataFrame:
    runs = records.runs[["run_id", "model", "fraction", "num_images", "seed"]].copy()
    runs[metric_title(metric)] = (display_scale(metric) * records.runs[metric]).map("{:.2f}".format)
    for column in ("flops", "device_hours", "images_per_second"):
        if column in records.runs:
            runs[column.replace("_", " ")] = records.runs[column].map("{:.3g}".format)
    runs["device"] = records.runs["device"] + ", " + records.runs["precision"]
    return runs


def _published_cells() -> pd.DataFrame:
    return cells(figure_2_records(), PUBLISHED_METRIC)


def _published_section() -> Section:
    text = (
        "Numbers of the papers, measured on TPUv3 cores; not comparable in time or throughput with this study's device."
    )
    return Section("Published: cost and throughput", text, tuple(published_figure_3()))


def _present(*drawings: Drawing | None) -> tuple[Drawing, ...]:
    return tuple(drawing for drawing in drawings if drawing is not None)


def _save_latex(
    records: Records, metric: str, main_table: pd.DataFrame, saved: dict[str, pd.DataFrame], crossed: pd.DataFrame,
    out: Path, suffix: str
) -> list[Path]:  # fmt: skip
    texts = {
        "cells": latex(main_table, f"{metric_title(metric)}, mean ± standard deviation over runs (number of runs)")
    }
    if len(crossed):
        texts["crossovers"] = latex(crossover_table(records, crossed), "Crossovers in pre-training size")
    if "predictions" in saved:
        texts["predictions"] = latex(saved["predictions"], f"Predictions of {metric_title(metric)}")
    paths = []
    for name, text in texts.items():
        path = out / f"{name}{suffix}.tex"
        path.write_text(text, encoding="utf-8")
        paths.append(path)
    return paths


def _save_tables(records: Records, excluded: pd.DataFrame, rows: pa.Table, out: Path) -> list[Path]:
    paths = [save_csv(records.runs, out / "runs.csv"), save_csv(excluded, out / "excluded.csv")]
    pq.write_table(pa.Table.from_pandas(records.runs, preserve_index=False), out / "runs.parquet")
    paths.append(out / "runs.parquet")
    if rows.num_rows:
        pq.write_table(rows, out / "rows.parquet")
        paths.append(out / "rows.parquet")
    return paths


def _counts(records: Records, excluded: pd.DataFrame) -> str:
    text = f"{len(records.runs)} finished runs of {records.runs['model'].nunique()} models"
    return text + (f"; {len(excluded)} runs are left out, listed with reasons below." if len(excluded) else ".")


def _opening_words(metric: str) -> list[str]:
    return [f"{metric_title(metric)}: mean ± standard deviation over runs (number of runs)"]


def _closing_words(excluded: pd.DataFrame, files: Sequence[Path]) -> list[str]:
    lines = []
    if len(excluded):
        lines.append("runs left out:")
        lines += [f"  {row.run_id}: {row.reason}" for row in excluded.head(_MAX_PRINTED).itertuples()]
        if len(excluded) > _MAX_PRINTED:
            lines.append(f"  and {len(excluded) - _MAX_PRINTED} more, in excluded.csv")
        lines.append("")
    lines.append(f"report   {next(path for path in files if path.name == 'index.html')}")
    lines += [f"figure   {path} (.svg, .csv)" for path in files if path.suffix == ".png"]
    return lines
