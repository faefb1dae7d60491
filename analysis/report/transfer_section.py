"""What a report says about the worth of pre-trained models: the paper's table, and whether yardsticks agree."""

import math

import pandas as pd

from analysis.comparison.rank_agreement import NUM_DRAWS, rank_agreement
from analysis.figures.rank_agreement import agreement_figure
from analysis.report.page import PageTable, Section
from analysis.report.transfer_table import TransferTable
from analysis.runs.downstream import yardsticks
from analysis.runs.load import Records
from scaling.readable import count_text

_CAPTION = (
    "Transfer, throughput and cost in the layout of the Mixer paper's Tables 2 and 3: means over runs; — where nothing "
    "was measured; device-hours are those of pre-training"
)
_PUBLISHED = "published rows are the paper's, measured on TPUv3 cores, and their cost is in TPUv3-core-days"


def transfer_section(table: TransferTable) -> tuple[Section, PageTable]:
    """The section, and the table for a paper."""
    is_published = "source" in table.printed
    page = PageTable(f"{_CAPTION}; {_PUBLISHED}" if is_published else _CAPTION, table.printed)
    text = ". ".join(table.missing)
    return Section("Transfer, throughput and cost", f"{text}." if text else "", tables=(page,)), page


def agreement_section(records: Records, metric: str) -> tuple[Section | None, pd.DataFrame]:
    """How far the headline and each yardstick order the models alike; None where no two models have both."""
    others = [name for one in yardsticks(records) for name in one.metrics if name in records.runs]
    table = rank_agreement(records, metric, others)
    if table.empty:
        return None, table
    rows = [
        {
            "evaluation": records.metric(row.metric_b).title,
            "images": "all sizes" if math.isnan(row.num_images) else count_text(row.num_images),
            "models": row.num_models,
            "pairs alike": row.concordant,
            "pairs opposed": row.discordant,
            "ties": row.ties,
            "Kendall's tau-b": "-" if math.isnan(row.tau) else f"{row.tau:.2f}",
            "90 % interval": "-" if math.isnan(row.low) else f"{row.low:.2f} to {row.high:.2f}",
            "fewest runs of a model": row.fewest_runs,
        }
        for row in table.itertuples()
    ]
    text = (
        f"Pairs of models at one size of the pre-training set that {records.metric(metric).title.removesuffix(', %')} "
        "and another evaluation put into the same order, or into opposite ones. The interval is a bootstrap over seeds "
        f"({NUM_DRAWS:,} draws of the runs of each model and size); it holds the models and the test images fixed, is "
        "too narrow with two or three seeds, and is left out where a model has one run."
    )
    page = PageTable(f"Order of models by {records.metric(metric).title} and by other evaluations", pd.DataFrame(rows))
    drawing = agreement_figure(records, table, metric)
    return Section("Agreement of evaluations", text, (drawing,), (page,)), table
