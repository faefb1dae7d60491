"""The options by which a user says what a metric is where its name does not."""

import argparse

from analysis.runs.metrics import Metric, declared_metric


def add_metric_options(parser: argparse.ArgumentParser, option: str) -> None:
    """`--higher-is-better`, `--lower-is-better` and `--bounds` of the metric that `option` names."""
    way = parser.add_mutually_exclusive_group()
    way.add_argument(
        "--higher-is-better", action="store_true", default=None, help=f"of {option}, where its name does not say"
    )
    way.add_argument("--lower-is-better", action="store_false", dest="higher_is_better", help=f"of {option}, likewise")
    parser.add_argument(
        "--bounds", metavar=("LOW", "HIGH"), nargs=2, type=float, help=f"smallest and largest value of {option} (0 inf)"
    )


def metric_of(name: str, options: argparse.Namespace) -> Metric:
    """The metric with what the options say about it; UserError where they contradict its name."""
    bounds = tuple(options.bounds) if options.bounds else None
    return declared_metric(name, higher_is_better=options.higher_is_better, bounds=bounds)
