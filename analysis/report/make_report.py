"""Records in, report out: draws, tabulates and writes all files of one report.

Runs of different conditions (`analysis.runs.conditions`) get sections of their own; the files of the first carry no
suffix.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from analysis.figures.canvas.drawing import installed_figures
from analysis.figures.canvas.save_drawings import save_drawings
from analysis.figures.canvas.style import drawing_style, without_glyphs
from analysis.figures.learning_curves import with_gap
from analysis.figures.published import published_figure_3
from analysis.figures.searches import search_figures
from analysis.laws.law import Law
from analysis.report.compute_section import compute_part
from analysis.report.methods import methods_text
from analysis.report.options import ReportOptions
from analysis.report.page import PageTable, Section, write_page
from analysis.report.sections import CELL_TEXT, condition_part
from analysis.report.tables import latex, markdown, plain_text
from analysis.report.transfer_latex import transfer_latex
from analysis.report.transfer_section import transfer_section
from analysis.report.transfer_table import transfer_table
from analysis.runs.caveats import changed_runs
from analysis.runs.conditions import in_order
from analysis.runs.load import EXCLUDED_COLUMNS, Records
from analysis.runs.measured import measured_alike, without_mixed
from analysis.runs.metrics import check_direction, headline_for
from analysis.runs.naming import with_short_titles
from analysis.runs.overlay import overlaid, renamed
from analysis.runs.rows import read_rows, with_known_counts
from analysis.runs.searches import cell_table
from analysis.runs.summary import runs_without, without_impossible
from analysis.runs.tables.csv_text import save_csv
from scaling.records.files import write_text_atomic

_MAX_PRINTED = 20
"""Left-out runs named on the screen; the files name all."""
_PUBLISHED_TEXT = (
    "Numbers of the papers, measured on TPUv3 cores; not comparable in time or throughput with this study's device."
)


Progress = Callable[[str], None]
_PLAIN = ReportOptions()


def _silent(_: str) -> None:
    """Nobody asked for progress."""


@dataclass(frozen=True, slots=True)
class Report:
    """What was written and what to tell the user."""

    files: list[Path]
    words: str


def make_report(
    records: Records,
    out: Path,
    wanted_metric: str | None,
    options: ReportOptions = _PLAIN,
    *,
    progress: Progress = _silent,
) -> Report:
    """Write the report of `records` into folder `out`, made when missing; `progress` gets each part's name."""
    if options.titles:
        records = renamed(records, options.titles)
    metric = headline_for(records.runs, records.eval_order, wanted_metric)
    records = measured_alike(records, metric)
    across = overlaid(records, options.labels, metric=metric, but="protocol") if options.overlay else records
    if options.overlay:
        records = overlaid(records, options.labels, metric=metric)
    records, across = (replace(part, models=with_short_titles(part.models)) for part in (records, across))
    check_direction(records.metric(metric))
    records, impossible = without_impossible(records, metric)
    across, _ = without_impossible(across, metric)
    without = pd.concat([impossible, runs_without(records, metric)], ignore_index=True)
    without = without[EXCLUDED_COLUMNS].drop_duplicates(["study", "run_id"])
    excluded = records.excluded[EXCLUDED_COLUMNS].drop_duplicates(["study", "run_id"])
    out.mkdir(parents=True, exist_ok=True)
    arrow_rows, lost_rows = read_rows(records.run_dirs.values())
    rows = with_known_counts(arrow_rows.to_pandas(), records.plans)
    records = replace(records, runs=with_gap(records, rows))
    all_runs = records.runs
    records, mixed = without_mixed(records, metric, ["condition", "model"] if options.overlay else ["condition"])
    files: list[Path] = []
    sections: list[Section] = []
    words = [f"{records.metric(metric).title}: {CELL_TEXT}"]
    conditions = in_order(records.runs[records.runs[metric].notna()])
    laws: dict[str, Law] = {}
    drawn = [model.figure_title for model in records.models.values()] + [records.metric(metric).title, *conditions]
    with drawing_style(options.width_inches, drawn):
        compute = compute_part(across, metric)
        for rank, condition in enumerate(conditions):
            progress(f"condition {rank + 1} of {len(conditions)}: {condition or 'all runs'}")
            own = records.of_condition(condition, f"_{rank + 1}" if rank else "")
            heading = condition if len(conditions) > 1 else ""
            part = condition_part(
                own,
                rows,
                metric,
                heading=heading,
                published=options.published,
                has_equal_compute=condition in compute.conditions or (options.overlay and bool(compute.conditions)),
            )
            sections += part.sections
            laws |= part.laws
            words += [heading, plain_text(part.main_table), ""]
            files += _save_tables_of(part.saved, part.papers, own.suffix, out)
        sections = compute.sections + sections if _asks_for_compute(records) else sections + compute.sections
        files += _save_tables_of(compute.saved, compute.papers, "", out)
        transfer = transfer_table(records, published=options.published)
        if transfer is not None:
            section, page = transfer_section(transfer)
            sections.append(section)
            files += _save_tables_of({"transfer": transfer.values}, {}, "", out)
            files.append(out / "transfer.tex")
            write_text_atomic(files[-1], transfer_latex(page.table, page.caption, label="tab:transfer"))
            files.append(out / "transfer.md")
            write_text_atomic(files[-1], markdown(transfer.printed) + "\n")
        if options.published:
            sections.append(Section("Published: cost and throughput", _PUBLISHED_TEXT, tuple(published_figure_3())))
        added = installed_figures(records, rows, metric)
        sections += [Section("Further figures", drawings=tuple(added))] if added else []
        sections += search_sections(records.searches)
        sections += _closing_sections(records, metric, excluded, without, laws, lost_rows, mixed)
        drawings = [drawing for section in sections for drawing in section.drawings]
        for drawing in drawings if not options.show_titles else ():
            drawing.hide_titles()
        files += save_drawings(drawings, out, progress)
        listed = pd.concat([excluded, without], ignore_index=True)
        files += _save_tables(replace(records, runs=all_runs), listed, arrow_rows, out)
        files += [save_csv(records.searches, out / "trials.csv")] if len(records.searches) else []
        title = " + ".join(sorted(records.runs["study"].unique()))
        files += write_page(title, " ".join([*records.questions, _counts(records, excluded, without)]), sections, out)
    return Report(
        files, "\n".join([*words, *filter(None, [mixed]), *_closing_words(listed, files), *_glyph_words(records)])
    )


def _glyph_words(records: Records) -> list[str]:
    """Which titles figures show with boxes, and the way out."""
    boxed = without_glyphs(sorted({records.models[model].figure_title for model in records.runs["model"].unique()}))
    if not boxed:
        return []
    return [
        f"no installed font has all letters of {', '.join(boxed[:3])}, so figures show boxes; install one, or give "
        "titles with --rename FILE"
    ]


def _closing_sections(
    records: Records,
    metric: str,
    excluded: pd.DataFrame,
    without: pd.DataFrame,
    laws: dict[str, Law],
    lost_rows: dict[str, tuple[int, int]],
    mixed: str,
) -> list[Section]:
    sections = [Section("Methods", methods_text(records, metric, laws, len(excluded), mixed))]
    left_out = [("No number above comes from them.", excluded)] if len(excluded) else []
    if len(without):
        name = records.metric(metric).title
        left_out.append((f"They have no value of {name} that counts, and are part of all other numbers.", without))
    if left_out:
        tables = tuple(PageTable(f"Runs left out. {text}", table.reset_index(drop=True)) for text, table in left_out)
        sections.append(Section("Runs left out", tables=tables))
    of_runs = [PageTable("One row per finished run; all columns are in runs.csv.", _run_table(records, metric))]
    if lost_rows:
        lost = pd.DataFrame(
            [(run, superseded, torn) for run, (superseded, torn) in lost_rows.items()],
            columns=["run_id", "superseded rows", "torn lines"],
        )
        of_runs.append(PageTable("Log rows left out: work that a resumed run did again, half-written lines.", lost))
    sections.append(Section("Runs", tables=tuple(of_runs)))
    return sections


def _run_table(records: Records, metric: str) -> pd.DataFrame:
    runs = records.runs[["run_id", "model", "fraction", "num_images", "seed"]].copy()
    runs[records.metric(metric).title] = (records.metric(metric).scale * records.runs[metric]).map("{:.2f}".format)
    for column in ("flops", "device_hours", "images_per_second"):
        if column in records.runs:
            runs[column.replace("_", " ")] = records.runs[column].map("{:.3g}".format)
    runs["device"] = records.runs["device"] + ", " + records.runs["precision"]
    if changed_runs(records):
        runs["changes"] = records.runs["changes"]
    return runs


def _asks_for_compute(records: Records) -> bool:
    """Whether the study was planned to compare models at equal compute: that section then comes first."""
    return "protocol" in records.runs and bool((records.runs["protocol"] == "matched_compute").any())


def _save_tables_of(saved: dict[str, pd.DataFrame], papers: dict[str, PageTable], suffix: str, out: Path) -> list[Path]:
    paths = [save_csv(frame, out / f"{name}{suffix}.csv") for name, frame in saved.items()]
    for name, entry in papers.items():
        path = out / f"{name}{suffix}.tex"
        write_text_atomic(path, latex(entry.table, entry.caption, label=f"tab:{name}{suffix}"))
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


def _counts(records: Records, excluded: pd.DataFrame, without: pd.DataFrame) -> str:
    text = f"{len(records.runs)} finished runs of {records.runs['model'].nunique()} models"
    told = [f"{len(excluded)} runs are left out"] if len(excluded) else []
    told += [f"{len(without)} of the finished ones have no value of the headline metric"] if len(without) else []
    return f"{text}; {' and '.join(told)}, listed with reasons below." if told else f"{text}."


def _closing_words(excluded: pd.DataFrame, files: Sequence[Path]) -> list[str]:
    lines = []
    if len(excluded):
        lines.append("runs left out:")
        lines += [f"  {row.run_id}: {row.reason}" for row in excluded.head(_MAX_PRINTED).itertuples()]
        if len(excluded) > _MAX_PRINTED:
            lines.append(f"  and {len(excluded) - _MAX_PRINTED} more, in excluded.csv")
        lines.append("")
    lines.append(f"report   {next(path for path in files if path.name == 'index.html')}")
    lines += [f"figure   {path} (.svg, .pdf, .csv)" for path in files if path.suffix == ".png"]
    return lines


_SEARCH_TEXT = (
    "Trials have seeds of their own and are no points of other figures. One that the search stopped early has no "
    "score; what it had come to is shown and compared with no score. A best value at an edge, beyond which nothing was "
    "tried, may not be the best there is; a larger tune.extend in the sweep searches on."
)


def search_sections(searches: pd.DataFrame) -> list[Section]:
    """None without a search."""
    if searches.empty:
        return []
    table = PageTable("What each search chose; every trial is in trials.csv.", cell_table(searches))
    return [Section("Search for hyper-parameters", _SEARCH_TEXT, tuple(search_figures(searches)), (table,))]
