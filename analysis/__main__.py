"""`python -m analysis STUDY_DIR ...`: figures, tables and a report from the records of one or more studies."""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from analysis.runs.metrics import Metric, add_metric_options, metric_of
from scaling.errors import UserError, run_command

if TYPE_CHECKING:
    from analysis.report.options import ReportOptions

_DESCRIPTION = (
    "Draw the figures and tables of finished runs, fit their laws and write a report (index.html, report.md, CSV, "
    "Parquet, LaTeX, PNG, SVG, PDF). Runs with fine-tuning, label sets or suites also get the Mixer paper's table of "
    "transfer, throughput and cost (transfer.md, transfer.tex) and the rank correlation of few-shot with them."
)
_PATIENCE_SECONDS = 5.0
_EXAMPLE = "example: python -m analysis runs/quickstart"


def main(argv: Sequence[str] | None = None) -> int:
    return run_command(_run, argv)


def _run(argv: Sequence[str] | None) -> int:
    parser = _parser()
    options = parser.parse_args(argv)
    # Imported late, so that --help and a wrong option answer at once.
    from analysis.report.check import check_report
    from analysis.report.make_report import make_report
    from analysis.report.published_report import make_published_report
    from analysis.runs.load import load_records
    from analysis.runs.speeds import with_throughput
    from analysis.runs.tables.from_csv import records_from_csv

    if options.published_only:
        for name, value in vars(options).items():
            if name not in ("published_only", "out") and value and value != parser.get_default(name):
                word = "a study" if name == "sources" else f"--{name.replace('_', '-')}"
                raise UserError(f"{word}: --published-only draws the papers' figures alone; leave one of them out")
        print(make_published_report(options.out or Path("published_report")).words)
        return 0
    if not options.sources:
        raise UserError("no study: name RUNS/<study> of a launched study, or use --published-only")
    read_csv = options.from_csv
    declared, wishes = _declared(options), _wishes(options)
    if read_csv:
        records = records_from_csv(options.sources, options.metric, declared)
    else:
        records = load_records(options.sources, declared)
    if options.throughput:
        records = with_throughput(records, options.throughput)
    first = options.sources[0]
    out = options.out or (first.with_suffix("") if read_csv else first) / "report"
    if options.check:
        return check_report(records, out, options.metric, wishes)
    print(make_report(records, out, options.metric, wishes, progress=_progress()).words)
    return 0


def _wishes(options: argparse.Namespace) -> "ReportOptions":
    from analysis.report.options import ReportOptions, read_titles
    from analysis.runs.overlay import labels_of

    if options.label and not options.overlay:
        raise UserError("--label names studies in one figure; add --overlay")
    if options.label and options.from_csv:
        raise UserError("--label names study folders; in tables, the column study names them")
    return ReportOptions(
        published=options.published,
        overlay=options.overlay,
        labels=labels_of(options.sources, options.label) if options.label else {},
        titles=read_titles(options.rename) if options.rename else {},
        num_columns=options.columns,
        show_titles=not options.no_titles,
    )


def _progress() -> Callable[[str], None]:
    """Tells on stderr, at most twice a second, what is being done once it takes longer than a few seconds."""
    begin = last = time.monotonic()

    def tell(what: str) -> None:
        nonlocal last
        now = time.monotonic()
        if now - begin > _PATIENCE_SECONDS and now - last > 0.5:
            print(f"[{now - begin:.0f} s] {what}", file=sys.stderr, flush=True)
            last = now

    return tell


def _declared(options: argparse.Namespace) -> Metric | None:
    """What the options say about the metric; None when they say nothing."""
    if options.higher_is_better is None and options.bounds is None:
        return None
    if options.metric is None:
        raise UserError("--higher-is-better, --lower-is-better and --bounds describe one metric; name it with --metric")
    return metric_of(options.metric, options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m analysis", description=_DESCRIPTION, epilog=_EXAMPLE)
    parser.add_argument("sources", metavar="STUDY_DIR", nargs="*", type=Path, help="RUNS/<study> of a launched study")
    parser.add_argument(
        "--out", metavar="DIR", type=Path, help="where to write (default: STUDY_DIR/report of the first)"
    )
    parser.add_argument("--metric", metavar="NAME", help="headline metric (default: the first few-shot 5-shot top-1)")
    add_metric_options(parser, "--metric")
    parser.add_argument(
        "--throughput",
        metavar="FILE",
        type=Path,
        action="append",
        help="take throughput from these rows of scaling.bench inference --search-batch, not from the runs (repeat)",
    )
    parser.add_argument(
        "--published",
        action="store_true",
        help="also draw the papers' numbers beside the study's, in figures and in the table of transfer",
    )
    parser.add_argument("--overlay", action="store_true", help="draw studies and conditions into one set of figures")
    parser.add_argument(
        "--label", metavar="NAME", action="append", help="with --overlay: a name for each study, in their order"
    )
    parser.add_argument("--rename", metavar="FILE", type=Path, help="YAML or JSON that maps models to other titles")
    parser.add_argument(
        "--columns", type=int, choices=(1, 2), default=2, help="width of a figure in columns of a paper (default: 2)"
    )
    parser.add_argument("--no-titles", action="store_true", help="figures without titles, for a paper's captions")
    parser.add_argument(
        "--published-only", action="store_true", help="redraw the papers' Figures 2 (right) and 3 and Tables 2 and 3"
    )
    parser.add_argument(
        "--from-csv", action="store_true", help="STUDY_DIR are CSV tables of finished runs (model, num_images, metrics)"
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="write nothing; say how the report in --out differs from the records (exit 1)",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
