"""A search read back from the records of its trials: their scores, the best of them, and whether it lies at an edge.

Everything here is a function of the records, so that a launcher that starts again, another back end and the analysis
all come to the same choice, whatever the order in which the trials ended. Of equal trials the first is the best.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from scaling.records.files import canonical_json
from scaling.records.scores.metrics import known_facts
from scaling.records.scores.rungs import Climb, Verdict, judge, mean_climb, scores_at
from scaling.records.scores.search_plan import Space, TrialPlan, TrialScore
from scaling.records.study import RunRecord

Side = Literal["low", "high"]


@dataclass(frozen=True, slots=True)
class Trial:
    """One trial of a cell and what its runs left."""

    plan: TrialPlan
    """Of its first run."""
    records: tuple[RunRecord, ...]
    """One for each seed."""
    rung_scores: tuple[float, ...] = ()
    """Means over its runs at the rungs that it reached, in stored units."""
    stopped_at: int | None = None
    """Rung at which the search had it out, whether or not it could still be stopped there; None where it did not."""

    @property
    def stopped_step(self) -> int | None:
        """Optimiser steps of the rung at which it was out."""
        return None if self.stopped_at is None else self.plan.rungs[self.stopped_at]

    @property
    def stopped_score(self) -> float | None:
        """What it had come to there."""
        return None if self.stopped_at is None else self.rung_scores[self.stopped_at]

    @property
    def problem(self) -> str:
        """Why it has no score; empty where it has one."""
        if self.stopped_at is not None:
            told = f"{self.plan.metric} {self.stopped_score:.4g}"
            return f"stopped by the search at step {self.stopped_step:,} with {told}"
        for record in self.records:
            standing = record.standing
            if record.result is None:
                return f"{standing.told}: {standing.reason}" if standing.reason else standing.told
            if not math.isfinite(record.metrics.get(self.plan.metric, math.nan)):
                known = ", ".join(sorted(name for name in record.metrics if "/" in name)) or "none"
                return f"it measured no {self.plan.metric} (its metrics: {known})"
        return ""

    @property
    def score(self) -> float | None:
        """Mean of the metric over its runs, in stored units."""
        if self.problem:
            return None
        values = [record.metrics[self.plan.metric] for record in self.records]
        return math.fsum(values) / len(values)

    @property
    def is_judged(self) -> bool:
        """Whether it tells something about its values: it has a score, diverged, or was stopped for others."""
        return (
            self.score is not None
            or self.stopped_at is not None
            or any(record.standing.has_diverged for record in self.records)
        )

    def as_score(self) -> TrialScore:
        """For the plan of a final run."""
        run_ids = tuple(record.plan.run_id for record in self.records)
        return TrialScore(
            number=self.plan.number,
            values=self.plan.values,
            run_ids=run_ids,
            score=self.score,
            problem=self.problem,
            stopped_step=self.stopped_step,
        )


def trials_of(records: Iterable[RunRecord]) -> list[Trial]:
    """The trials of one cell by number; runs that are no trials are passed over."""
    groups: dict[int, list[RunRecord]] = defaultdict(list)
    for record in records:
        if record.plan.trial is not None:
            groups[record.plan.trial.number].append(record)
    found = []
    for _, group in sorted(groups.items()):
        plan = group[0].plan.trial
        assert plan is not None
        found.append(Trial(plan, tuple(sorted(group, key=lambda record: record.plan.seed))))
    return _judged(found)


def _judged(trials: Sequence[Trial]) -> list[Trial]:
    """With what the search said of each at its rungs."""
    if not any(trial.plan.rungs for trial in trials):
        return list(trials)
    climbs = [mean_climb([_climb(record, trial.plan) for record in trial.records]) for trial in trials]
    verdicts = judge_trials([trial.plan for trial in trials], climbs)
    return [
        replace(trial, rung_scores=climb.scores, stopped_at=verdict.stopped_at)
        for trial, climb, verdict in zip(trials, climbs, verdicts, strict=True)
    ]


def judge_trials(plans: Sequence[TrialPlan], climbs: Sequence[Climb]) -> tuple[Verdict, ...]:
    """What becomes of all trials of a cell, in the order of their numbers, by how far each has come."""
    return judge(
        climbs,
        num_rungs=max(len(plan.rungs) for plan in plans),
        reduction_factor=plans[-1].reduction_factor,
        higher_is_better=bool(known_facts(plans[-1].metric).higher_is_better),
    )


def _climb(record: RunRecord, plan: TrialPlan) -> Climb:
    scores = scores_at(record.run_dir, plan.metric, plan.rungs)
    return Climb(scores, record.result is not None or record.standing.has_ended)


def cells_of(records: Iterable[RunRecord]) -> dict[str, list[Trial]]:
    """The trials of every cell of a study, cells in the order of their first trial, by their text."""
    cells: dict[str, list[RunRecord]] = defaultdict(list)
    for record in records:
        if record.plan.trial is not None:
            cells[canonical_json(record.plan.trial.cell)].append(record)
    return {cell_text(group[0].plan.trial.cell): trials_of(group) for group in cells.values() if group[0].plan.trial}


def best_of(trials: Sequence[Trial]) -> Trial | None:
    """The trial with the best score; None where none has one."""
    scored = [(trial.score, trial) for trial in trials if trial.score is not None]
    if not scored:
        return None
    sign = -1.0 if known_facts(scored[0][1].plan.metric).higher_is_better else 1.0
    return min(scored, key=lambda pair: (sign * pair[0], pair[1].plan.number))[1]


def edges_of(best: Trial, trials: Sequence[Trial]) -> dict[str, Side]:
    """Searched settings of which no judged trial tried a value beyond the best one, and on which side.

    Only numbers have sides. A range of which one value alone was tried says nothing.
    """
    edges: dict[str, Side] = {}
    for name, value in best.plan.values.items():
        tried = {trial.plan.values[name] for trial in trials if trial.is_judged and _is_number(trial.plan.values[name])}
        if not _is_number(value) or len(tried) < 2:
            continue
        if value == max(tried):
            edges[name] = "high"
        elif value == min(tried):
            edges[name] = "low"
    return edges


def latest_space(trials: Sequence[Trial]) -> Space:
    """What the search has come to cover."""
    return max(trials, key=lambda trial: (trial.plan.round, trial.plan.number)).plan.space


def cell_text(cell: Mapping[str, Any]) -> str:
    """A cell for people: `model mixer-b/32, fraction 0.1`; `all runs` where there is one for the whole study."""
    return ", ".join(f"{name} {value_text(value)}" for name, value in cell.items()) or "all runs"


def value_text(value: Any) -> str:
    """A value of a setting for people."""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def values_text(values: Mapping[str, Any]) -> str:
    """`learning_rate 0.003, weight_decay 0.1`."""
    return ", ".join(f"{name} {value_text(value)}" for name, value in values.items())


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
