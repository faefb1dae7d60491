"""A search read from the records of its trials: scores, the best, ties, failures, edges."""

from pathlib import Path
from typing import Any

import pytest

from scaling.records.attempts.attempt import claim_attempt
from scaling.records.attempts.causes import Cause
from scaling.records.attempts.ends import End, append_end
from scaling.records.run_plan import RunPlan
from scaling.records.scores.search import Trial, best_of, cells_of, edges_of, trials_of
from scaling.records.scores.search_plan import TrialPlan
from scaling.records.state import RunState
from scaling.records.study import RunRecord, load_run
from tests.support.run_plans import run_plan
from tests.support.scripted_backend import result_of

METRIC = "upstream/precision_at_1"


def trial_plan(number: int, rate: Any, *, seed: int = 1000, metric: str = METRIC) -> RunPlan:
    place = TrialPlan(
        cell={"model": "mixer-s/32"},
        number=number,
        values={"learning_rate": rate},
        space={"learning_rate": {"choice": [rate]}},
        search="grid",
        metric=metric,
    )
    learning_rate = rate if isinstance(rate, float) else 1e-3 * (number + 1)
    return run_plan(learning_rate=learning_rate, seed=seed).model_copy(update={"trial": place})


def record(folder: Path, plan: RunPlan, outcome: float | Cause | None) -> RunRecord:
    """A run that ended with this accuracy or cause; None for one that was never started."""
    run_dir = folder / plan.run_id
    run_dir.mkdir()
    plan.save(run_dir)
    if isinstance(outcome, float):
        result = result_of(plan)
        measured = {plan.trial.metric: outcome} if plan.trial and plan.trial.metric in result.metrics else {}
        result.model_copy(update={"metrics": result.metrics | measured}).save(run_dir)
    elif outcome is not None:
        attempt = claim_attempt(run_dir)
        append_end(run_dir, End(attempt=attempt.attempt, cause=outcome, message="loss is nan"))
        RunState(attempt=attempt.attempt).save(run_dir)
    return load_run(run_dir)


def trials(folder: Path, outcomes: dict[Any, float | Cause | None], metric: str = METRIC) -> list[Trial]:
    plans = [trial_plan(number, rate, metric=metric) for number, rate in enumerate(outcomes)]
    return trials_of([record(folder, plan, outcomes[rate]) for plan, rate in zip(plans, outcomes, strict=True)])


@pytest.mark.parametrize(("metric", "number"), [(METRIC, 1), ("upstream/loss", 0)])
def test_the_best_by_the_direction_of_the_metric_and_of_equals_the_first(
    tmp_path: Path, metric: str, number: int
) -> None:
    found = trials(tmp_path, {1e-4: 0.2, 3e-4: 0.5, 1e-3: 0.5, 3e-3: 0.2}, metric)
    best = best_of(found)
    assert best is not None and best.plan.number == number and best_of(found[::-1]) is best


def test_a_failed_trial_is_never_the_best_and_says_why(tmp_path: Path) -> None:
    found = trials(tmp_path, {1e-4: Cause.DIVERGED, 1e-3: 0.1, 1e-2: None})
    assert [trial.score for trial in found] == [None, 0.1, None]
    assert [trial.problem for trial in found] == ["failed: loss is nan", "", "pending"]
    assert [trial.is_judged for trial in found] == [True, True, False]
    best = best_of(found)
    assert best is not None and best.plan.number == 1
    assert best_of([found[0], found[2]]) is None


def test_only_divergence_judges_a_trial_without_a_score(tmp_path: Path) -> None:
    causes = {1e-4: Cause.DIVERGED, 1e-3: Cause.LOST, 2e-3: Cause.CANCELLED, 3e-3: Cause.FAILED, 4e-3: None}
    judged = [trial.records[0].standing.has_diverged for trial in trials(tmp_path, causes)]
    assert judged == [True, False, False, False, False]


def test_a_metric_that_was_not_measured_is_told_with_those_that_were(tmp_path: Path) -> None:
    (trial,) = trials(tmp_path, {1e-3: 0.5}, metric="upstream/top5")
    assert trial.score is None
    assert trial.problem == "it measured no upstream/top5 (its metrics: upstream/loss, upstream/precision_at_1)"


def test_a_score_is_the_mean_over_seeds_and_missing_where_one_is(tmp_path: Path) -> None:
    plans = [trial_plan(number, rate, seed=seed) for number, rate in ((0, 1e-3), (1, 1e-2)) for seed in (1000, 1001)]
    outcomes: list[float | Cause] = [0.2, 0.4, 0.9, Cause.DIVERGED]
    first, second = trials_of([record(tmp_path, plan, o) for plan, o in zip(plans, outcomes, strict=True)])
    assert first.score == pytest.approx(0.3) and second.score is None and second.is_judged
    assert first.as_score().run_ids == (plans[0].run_id, plans[1].run_id)


@pytest.mark.parametrize(
    ("outcomes", "edges"),
    [
        ({1e-4: 0.1, 1e-3: 0.5, 1e-2: 0.2}, {}),
        ({1e-4: 0.1, 1e-3: 0.2, 1e-2: 0.5}, {"learning_rate": "high"}),
        ({1e-4: 0.5, 1e-3: 0.2, 1e-2: 0.1}, {"learning_rate": "low"}),
        # Beyond the best one training diverged: that side is known. A trial that lost its machine says nothing.
        ({1e-4: 0.1, 1e-3: 0.5, 1e-2: Cause.DIVERGED}, {}),
        ({1e-4: 0.1, 1e-3: 0.5, 1e-2: Cause.LOST}, {"learning_rate": "high"}),
        ({1e-3: 0.5}, {}),
        ({"linear": 0.1, "cosine": 0.5}, {}),
        ({True: 0.5, "no": 0.1}, {}),
    ],
)
def test_edges(tmp_path: Path, outcomes: dict[Any, float | Cause | None], edges: dict[str, str]) -> None:
    found = trials(tmp_path, outcomes)
    best = best_of(found)
    assert best is not None and edges_of(best, found) == edges


def test_cells_are_kept_apart_and_other_runs_passed_over(tmp_path: Path) -> None:
    one, final = trial_plan(0, 1e-3), run_plan(seed=5)
    other = trial_plan(0, 1e-2)
    assert other.trial is not None
    other = other.model_copy(
        update={"trial": other.trial.model_copy(update={"cell": {"model": "vit", "fraction": 0.1}})}
    )
    cells = cells_of([record(tmp_path, plan, 0.5) for plan in (one, final, other)])
    assert list(cells) == ["model mixer-s/32", "model vit, fraction 0.1"]
    assert [len(found) for found in cells.values()] == [1, 1]
