"""`search: optuna`, launched: the same trials and the same choice whatever breaks on the way, and what it will cost."""

import json
import random

import pytest

from scaling.launch.command import main
from scaling.records.attempts.contract import DONE, FAILED
from scaling.records.run_plan import RunPlan
from tests.launch.graph.lab import Lab, best_rate, rates

OPTUNA = ("tune.search=optuna", "tune.num_trials=14", "tune.max_concurrent=3")


def trials_of(lab: Lab) -> list[RunPlan]:
    found = [record.plan for record in lab.records().values() if record.plan.trial is not None]
    return sorted(found, key=lambda plan: plan.trial.number if plan.trial else 0)


def launch_with_losses(lab: Lab, seed: int, *options: str) -> int:
    """Launch until the search has ended, with launchers that are lost after some runs; how many of them there were."""
    chance = random.Random(seed)
    for number in range(100):
        known = [run_id for run_id, record in lab.records().items() if record.result is None] if number else []
        known = known or [plan.run_id for plan in lab.trials(*options)]
        codes = dict.fromkeys(chance.sample(known, chance.randint(len(known) // 2, len(known))), DONE)
        try:
            lab.launch(*options, codes=codes, default=None)
            return number
        except KeyError:  # The script names no further run.
            continue
    raise AssertionError("the search does not end")


def test_a_search_whose_launchers_are_lost_has_the_trials_of_an_unbroken_one(lab: Lab) -> None:
    whole = Lab(lab.sweep, lab.study_dir.parent / "whole")
    whole.launch(*OPTUNA)
    expected = trials_of(whole)
    assert len(expected) == 14 and [plan.trial.number for plan in expected if plan.trial] == list(range(14))
    assert rates(expected)[:10] == rates(lab.trials("tune.num_trials=10")), "the first ten are those of search: random"
    assert launch_with_losses(lab, 0, *OPTUNA) > 2
    assert trials_of(lab) == expected and list(lab.records()) == list(whole.records())
    assert lab.finals() == whole.finals()
    (final,) = lab.finals()
    assert final.choice is not None and len(final.choice.trials) == 14
    assert final.recipe.learning_rate == best_rate(expected)
    lab.launch(*OPTUNA)
    assert lab.started == []
    assert [note for note in whole.notes if "suggested from 10 trials" in note] and len(whole.notes) == 3


def test_more_trials_keep_the_earlier_ones_and_failed_ones_are_passed_over(lab: Lab) -> None:
    lab.launch(*OPTUNA, "tune.num_trials=13")
    first = trials_of(lab)
    lab.launch(*OPTUNA)
    assert trials_of(lab)[:13] == first and len(lab.started) == 1 + (rates(lab.finals()) != [best_rate(first)])
    other = Lab(lab.sweep, lab.study_dir.parent / "other")
    other.launch(*OPTUNA, codes={plan.run_id: FAILED for plan in first[:3]})
    assert len(trials_of(other)) == 14 and rates(other.finals()) == [best_rate(trials_of(other)[3:])]


def test_an_extended_search_begins_beyond_its_edge(lab: Lab) -> None:
    options = (*OPTUNA, "tune.space.learning_rate={log_uniform: [1.0e-5, 2.0e-4]}", "tune.extend=1")
    lab.launch(*options)
    trials = trials_of(lab)
    rounds = [plan.trial.round for plan in trials if plan.trial]
    assert rounds == [0] * 14 + [1] * 7
    assert min(rates(trials[14:17])) >= best_rate(trials[:14])
    assert rates(lab.finals()) == [best_rate(trials)] and best_rate(trials) > 2e-4


def test_trials_that_all_fail_end_the_search(lab: Lab) -> None:
    lab.launch(*OPTUNA, codes={plan.run_id: FAILED for plan in lab.trials(*OPTUNA)})
    assert len(lab.started) == 10 and lab.finals() == []
    (note,) = lab.notes
    assert "none of 10 trials has a score" in note


def test_the_price_counts_what_will_be_suggested(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    space = "tune.space={protocol.steps: {integer: [10, 60]}}"
    out = [str(lab.sweep), "--out", str(lab.study_dir.parent / "runs"), "--dry-run"]
    options = [part for option in (*OPTUNA, "tune.seeds=[7, 8]", space) for part in ("--set", option)]
    assert main([*out, *options, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    trials = [row for row in rows if row["plan"]["trial"]]
    assert (len(trials), len(rows)) == (28, 29)
    assert [row["is_chosen"] for row in rows] == [True] * 20 + [False] * 9
    known = max(row["train_flops"] / row["plan"]["schedule"]["steps"] for row in trials[:20])
    assert {row["train_flops"] for row in rows[20:]} == {60 * known}, "at most this"
    assert {row["plan"]["seed"] for row in trials[20:]} == {7, 8}
    assert main([*out, *options]) == 0
    told = capsys.readouterr().out
    line = next(line for line in told.splitlines() if line.startswith("trials of the search: 28 runs"))
    assert "; 8 of them wait for what the search finds, and cost at most this" in line
