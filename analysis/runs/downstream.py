"""What of the records tells the worth of a pre-trained model: fine-tuning, reassessed labels, and means over suites.

A yardstick is a metric of the finished runs with a title. Those of the Mixer paper's Tables 2 and 3 come first, whether
they were measured or not; then a study's own suites and fine-tunings, in the order of the plans.
"""

from dataclasses import dataclass

import pandas as pd

from analysis.runs.load import Records
from scaling.records.run_plan import EvalPlan
from scaling.records.scores.suites import suite_scores

FINE_TUNING, LABEL_SETS = "finetune", "real"
"""Kinds of evaluations."""
IMAGENET_REAL = "imagenet-real"
"""`labels` of the label sets that the paper's column means."""
PAPER_SUITES = {"Avg. 5": "avg-5", "VTAB-1k": "vtab-1k"}
"""Suites by the paper's column."""
PAPER_COLUMNS = ("ImageNet top-1", "ReaL top-1", *PAPER_SUITES)


@dataclass(frozen=True, slots=True)
class Yardstick:
    title: str
    metrics: tuple[str, ...]
    """Names under which runs may hold it; the first that a run has counts. Empty where nobody measured it."""
    suite: str = ""
    """Of whose members it is the mean."""

    def values(self, runs: pd.DataFrame) -> "pd.Series[float]":
        """The value of each run, NaN where it was not measured."""
        found = pd.Series(float("nan"), index=runs.index)
        for metric in (name for name in self.metrics if name in runs):
            found = found.where(found.notna(), runs[metric])
        return found


def yardsticks(records: Records) -> list[Yardstick]:
    """Those of the paper, then the study's own; empty where no run planned or holds any."""
    plans = _planned(records)
    names: dict[str, list[str]] = {title: [] for title in PAPER_COLUMNS}
    suites = dict(PAPER_SUITES)
    for plan in plans:
        if plan.suite is not None:
            title = _suite_title(plan.suite.name)
            suites[title] = plan.suite.name
            _add(names, title, f"{plan.suite.name}/mean_{plan.suite.score}")
        if plan.kind == FINE_TUNING and _last(plan.name) == "imagenet":
            _add(names, "ImageNet top-1", f"{plan.name}/top1")
        elif plan.kind == FINE_TUNING and plan.suite is None:
            _add(names, f"{plan.name}, fine-tuned", f"{plan.name}/top1")
        elif plan.kind == LABEL_SETS:
            is_paper = plan.settings.get("labels") == IMAGENET_REAL
            _add(names, "ReaL top-1" if is_paper else f"{plan.name}, label sets", f"{plan.name}/top1")
    if not records.plans:  # Tables of runs logged elsewhere have names alone.
        known = {"ImageNet top-1": "imagenet/top1", "ReaL top-1": "real/top1"}
        known |= {title: f"{suite}/mean_top1" for title, suite in PAPER_SUITES.items()}
        for title, metric in known.items():
            if metric in records.runs:
                _add(names, title, metric)
    if not any(names.values()):
        return []
    return [Yardstick(title, tuple(metrics), suites.get(title, "")) for title, metrics in names.items()]


def missing_members(records: Records, yardstick: Yardstick) -> dict[str, tuple[str, ...]]:
    """By run, the members of the suite that the run has no score of; runs that lack none, or did not ask, are not in
    it."""
    lacking = {}
    for row in records.runs.to_dict("records"):
        plan = records.plans.get(row["run_id"])
        for one in suite_scores(plan.evals, _numbers(row)) if plan is not None else ():
            if one.name == yardstick.suite and one.missing:
                lacking[str(row["run_id"])] = one.missing
    return lacking


def _planned(records: Records) -> list[EvalPlan]:
    """Evaluations of the finished runs, each name once."""
    found: dict[str, EvalPlan] = {}
    for run_id in records.runs["run_id"]:
        for plan in records.plans[run_id].evals if run_id in records.plans else ():
            found.setdefault(plan.name, plan)
    return list(found.values())


def _suite_title(name: str) -> str:
    return next((title for title, suite in PAPER_SUITES.items() if suite == name), f"{name}, mean")


def _last(name: str) -> str:
    return name.rpartition(".")[2].lower()


def _add(names: dict[str, list[str]], title: str, metric: str) -> None:
    known = names.setdefault(title, [])
    if metric not in known:
        known.append(metric)


def _numbers(row: dict[str, object]) -> dict[str, float]:
    return {str(name): value for name, value in row.items() if isinstance(value, float) and value == value}
