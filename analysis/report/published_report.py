"""`--published-only`: the papers' figures and tables redrawn from the numbers that ship with the package."""

from pathlib import Path

import pandas as pd

from analysis.figures.accuracy_vs_size import accuracy_vs_size
from analysis.figures.canvas.save_drawings import save_drawings
from analysis.figures.canvas.style import drawing_style
from analysis.figures.published import published_figure_3
from analysis.published.findings import sentences
from analysis.published.tables import FIGURE_2_SOURCE, PUBLISHED_METRIC, figure_2_records, read_published
from analysis.report.make_report import Report
from analysis.report.page import PageTable, Section, write_page
from analysis.report.tables import plain_text, size_table, size_table_tips
from analysis.runs.summary import cells
from analysis.runs.tables.csv_text import save_csv

LEADER = "bit-r152x2"
_TITLE = "Published: MLP-Mixer"
_TABLES = {
    "mixer_table2": "Mixer, Table 2: transfer, throughput and cost of the largest models",
    "mixer_table3": "Mixer, Table 3: the same for all Mixer, ViT and BiT models",
}


def make_published_report(out: Path) -> Report:
    """Write figures, tables and the page into `out`."""
    out.mkdir(parents=True, exist_ok=True)
    records = figure_2_records()
    table = cells(records, PUBLISHED_METRIC)
    findings = sentences(records, PUBLISHED_METRIC, LEADER)
    with drawing_style():
        main_table = size_table(records, table, PUBLISHED_METRIC)
        sections = [
            Section(
                "Figure 2, right: accuracy and pre-training size",
                " ".join(findings),
                (accuracy_vs_size(records, table, PUBLISHED_METRIC),),
                (PageTable(FIGURE_2_SOURCE, main_table, size_table_tips(records, table)),),
            ),
            Section("Figure 3: cost and throughput", drawings=tuple(published_figure_3())),
            Section(
                "Tables 2 and 3",
                "As published; an empty cell is empty in the paper.",
                tables=tuple(
                    PageTable(caption, _as_printed(read_published(name))) for name, caption in _TABLES.items()
                ),
            ),
        ]
        files = save_drawings([drawing for section in sections for drawing in section.drawings], out)
        files += [save_csv(read_published(name), out / f"{name}.csv") for name in _TABLES]
        files += write_page(_TITLE, "Redrawn from the numbers in analysis/published.", sections, out)
    words = [plain_text(main_table), "", *findings, "", f"report   {out / 'index.html'}"]
    return Report(files, "\n".join(words))


def _as_printed(table: pd.DataFrame) -> pd.DataFrame:
    return table.map(lambda value: "" if pd.isna(value) else f"{value:g}" if isinstance(value, float) else str(value))
