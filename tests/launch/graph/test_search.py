"""A study with a search, launched: trials first, then the runs they chose, whatever breaks on the way.

The scripted back end ends runs at once; one real search is killed in its middle and compared with an unbroken one.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from scaling.launch.command import main
from scaling.plan.search.searches import UNCHOSEN
from scaling.records.attempts.causes import Cause
from scaling.records.attempts.contract import DONE, FAILED
from scaling.records.scores.search import Trial, cells_of
from scaling.records.state import Status
from scaling.records.study import RunRecord, read_study
from tests.launch.graph.lab import Lab, best_rate, rates


def scores(record: RunRecord) -> dict[str, float]:
    """What was measured of the weights, not of the machine."""
    return {name: value for name, value in record.metrics.items() if "/" in name}


def test_final_runs_have_the_best_values_and_the_trials_that_led_to_them(lab: Lab) -> None:
    lab.launch("grid.seed=[0, 1]")
    trials = lab.trials("grid.seed=[0, 1]")
    lab.launch("grid.seed=[0, 1]")
    assert lab.started == []
    finals = lab.finals()
    assert rates(finals) == [best_rate(trials)] * 2 and [plan.seed for plan in finals] == [0, 1]
    for plan in finals:
        assert plan.choice is not None and plan.choice.values == {"learning_rate": best_rate(trials)}
        assert [trial.run_ids for trial in plan.choice.trials] == [(trial.run_id,) for trial in trials]
        scores = [trial.score for trial in plan.choice.trials]
        assert plan.choice.number == scores.index(max(score for score in scores if score is not None))
    assert {trial.seed for trial in trials} == {1000}


def test_every_cell_has_a_search_of_its_own(lab: Lab) -> None:
    options = ("grid.fraction=[0.5, 1.0]", "tune.per=[model, fraction]")
    lab.launch(*options)
    trials = lab.trials(*options)
    halves = [trial for trial in trials if trial.subset.fraction == 0.5]
    wholes = [trial for trial in trials if trial.subset.fraction == 1.0]
    assert len(halves) == len(wholes) == 4 and rates(halves) != rates(wholes)
    lab.launch(*options)
    chosen = {plan.subset.fraction: plan.recipe.learning_rate for plan in lab.finals()}
    assert chosen == {0.5: best_rate(halves), 1.0: best_rate(wholes)}


@pytest.mark.parametrize("num_ended", [0, 1, 3, 4])
def test_a_launcher_that_is_gone_in_the_middle_changes_nothing(lab: Lab, num_ended: int) -> None:
    trials = lab.trials()
    with pytest.raises(KeyError):  # The script names no further run: the launcher is gone.
        lab.launch(codes={trial.run_id: DONE for trial in trials[:num_ended]}, default=None)
    assert lab.trials() == trials
    lab.launch()
    finals = lab.finals()
    assert rates(finals) == [best_rate(trials)]
    # What was given an end is not trained again.
    again = [name for name in lab.started if name in {trial.run_id for trial in trials[:num_ended]}]
    assert again == []
    assert finals[0].choice is not None and len(finals[0].choice.trials) == 4


def test_the_best_trial_that_fails_is_not_chosen_and_told(lab: Lab) -> None:
    trials = lab.trials()
    best = next(trial for trial in trials if trial.recipe.learning_rate == best_rate(trials))
    lab.launch(codes={best.run_id: FAILED})
    rest = [trial for trial in trials if trial is not best]
    lab.launch()
    (final,) = lab.finals()
    assert final.recipe.learning_rate == best_rate(rest)
    assert any("1 without a score: failed: code 1" in note for note in lab.notes)
    assert final.choice is not None
    assert [trial.score is None for trial in final.choice.trials] == [trial is best for trial in trials]


def test_a_damaged_result_of_a_trial_changes_no_choice(lab: Lab) -> None:
    lab.launch()
    (chosen,) = lab.finals()
    assert chosen.choice is not None
    for run_ids in [trial.run_ids for trial in chosen.choice.trials]:
        path = lab.study_dir / run_ids[0] / "result.json"
        path.write_bytes(path.read_bytes()[:-20])
        lab.launch()
        assert lab.started == [] and lab.finals() == []
        assert any(f"nothing is chosen while the result of a trial is damaged ({path}" in note for note in lab.notes)
        path.unlink()
        lab.launch()
        assert lab.started == [run_ids[0]]
        assert lab.finals() == [chosen]


def test_nothing_is_chosen_where_all_trials_fail(lab: Lab) -> None:
    lab.launch(codes={trial.run_id: FAILED for trial in lab.trials()})
    assert lab.finals() == []
    (note,) = lab.notes
    assert note == (
        "model mixer-laptop-32px: none of 4 trials has a score, so its 1 final runs are not planned (failed: code 1)"
    )


def test_a_search_goes_on_beyond_an_edge_as_often_as_it_is_told(lab: Lab) -> None:
    space = "tune.space.learning_rate={choice: [1.0e-5, 1.0e-4]}"
    options = (space, "tune.search=grid", "tune.num_trials=null")
    lab.launch(*options)
    assert rates(lab.finals()) == [1e-4]
    assert any("no trial went above learning_rate 0.0001" in note for note in lab.notes)
    lab.launch(*options, "tune.extend=1")
    assert len(lab.started) == 2 and rates(lab.finals()) == [1e-3], "one further trial, and the run it leads to"
    lab.launch(*options, "tune.extend=5")
    assert len(lab.started) == 1, "the trial at 1e-2 is worse, so the best lies inside and the search ends"
    (final,) = lab.finals()
    assert final.recipe.learning_rate == 1e-3 and final.choice is not None
    assert final.choice.at_edge == {}
    assert [trial.values["learning_rate"] for trial in final.choice.trials] == [1e-5, 1e-4, 1e-3, 1e-2]
    lab.launch(*options, "tune.extend=5")
    assert lab.started == []


def test_a_random_search_goes_on_with_half_as_many_trials_beyond_its_best(lab: Lab) -> None:
    options = ("tune.space.learning_rate={log_uniform: [1.0e-5, 2.0e-4]}",)
    lab.launch(*options)
    best = rates(lab.finals())[0]
    lab.launch(*options, "tune.extend=1")
    lab.launch(*options, "tune.extend=1")
    found = [record.plan for record in lab.records().values()]
    further = [plan for plan in found if plan.trial is not None and plan.trial.round == 1]
    assert len(further) == 2 and all(best <= rate <= 2e-4 * 20**0.5 for rate in rates(further))
    assert rates(lab.finals()) == [best_rate(found)]


def test_a_value_that_a_setting_cannot_take_ends_the_search_there(lab: Lab) -> None:
    options = ("tune.space={mixup: {choice: [0.0, 0.1]}}", "tune.search=grid", "tune.num_trials=null")
    lab.launch(*options, "tune.extend=3")
    (final,) = lab.finals()  # All trials are alike, so the first is the best, at 0, and nothing lies below.
    assert final.choice is not None and final.choice.at_edge == {"mixup": "low"}
    assert any("the search cannot go beyond it" in note and "tune.space.mixup: -0.1" in note for note in lab.notes)


def test_seeds_of_a_trial_are_averaged(lab: Lab) -> None:
    options = ("tune.seeds=[7, 8]",)
    lab.launch(*options)
    trials = lab.trials(*options)
    assert [trial.seed for trial in trials] == [7, 8] * 4
    lab.launch(*options)
    (final,) = lab.finals()
    assert final.choice is not None and [len(trial.run_ids) for trial in final.choice.trials] == [2] * 4


def test_the_price_is_told_before_and_where_it_stands_after(
    lab: Lab, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = ["--out", str(lab.study_dir.parent / "runs"), "--dry-run", "--set", "grid.seed=[0, 1]"]
    lab.study_dir = lab.study_dir.parent / "runs" / "tiny"
    assert main([str(lab.sweep), *out, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert not lab.study_dir.exists()
    trials = [row for row in rows if row["plan"]["trial"]]
    finals = [row for row in rows if not row["plan"]["trial"]]
    assert (len(trials), len(finals)) == (4, 2) and not any(row["is_chosen"] for row in finals)
    assert main([str(lab.sweep), *out]) == 0
    told = capsys.readouterr().out
    for heading, part in (("trials of the search", trials), ("final runs", finals), ("together", rows)):
        total = sum(row["train_flops"] for row in part)
        line = next(line for line in told.splitlines() if line.startswith(heading))
        assert line.startswith(f"{heading}: {len(part)} runs, ") and f"{total / 1e9:.3g} GFLOP" in line
    assert told.count(UNCHOSEN) == 2 and told.count("to be chosen") == 2
    lab.study_dir.parent.mkdir(exist_ok=True)
    lab.launch("grid.seed=[0, 1]")
    assert main([str(lab.sweep), *out, "--json"]) == 0
    after = json.loads(capsys.readouterr().out)
    assert [row["plan"]["run_id"] for row in after] == list(lab.records())
    assert all(row["is_chosen"] for row in after)


ASHA = ("tune.scheduler=asha", "tune.reduction_factor=2", "tune.num_trials=5", "tune.metric=upstream/loss")


def test_a_real_search_killed_in_its_middle_chooses_as_an_unbroken_one(sweep: Path, tmp_path: Path) -> None:
    """`kill -9` of the launcher while trials train and are stopped early, and the same command again."""
    settings = [*ASHA, "protocol.steps=120", "defaults.validate_every=12", "launch.local.threads=1"]
    command = [sys.executable, "-m", "scaling.launch", str(sweep), "--no-report"]
    command += [f"--set={setting}" for setting in settings]
    whole = subprocess.run([*command, "--out", str(tmp_path / "whole")], capture_output=True, text=True, check=False)
    assert whole.returncode == 0, whole.stderr
    broken = tmp_path / "broken" / "tiny"
    nowhere = subprocess.DEVNULL
    process = subprocess.Popen([*command, "--out", str(broken.parent)], stdout=nowhere, stderr=nowhere)
    deadline = time.monotonic() + 1200  # Others may hold the cores first.
    while len(list(broken.glob("*/result.json"))) < 1 and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    done = {path.parent.name: path.read_bytes() for path in broken.glob("*/result.json")}
    assert 0 < len(done) < 6, "killed while some of the five trials had yet to end"
    again = subprocess.run([*command, "--out", str(broken.parent)], capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    for name, content in done.items():
        assert (broken / name / "result.json").read_bytes() == content, "a finished trial is kept"
    kept, expected = (read_study(folder).runs for folder in (broken, tmp_path / "whole" / "tiny"))
    assert [run.plan.run_id for run in kept] == [run.plan.run_id for run in expected]
    (kept_cell,), (expected_cell,) = (list(cells_of(runs).values()) for runs in (kept, expected))
    assert [trial.stopped_at for trial in kept_cell] == [trial.stopped_at for trial in expected_cell]
    out = {run_id for trial in expected_cell if trial.stopped_at is not None for run_id in ids(trial)}
    # A slow launcher may come too late to stop some of them, or all.
    pruned = {run.plan.run_id for run in expected if run.standing.status is Status.PRUNED}
    assert out and pruned <= out
    assert {Cause.PRUNED} >= {run.standing.ends.all[-1].cause for run in expected if run.plan.run_id in pruned}
    for run, other in zip(kept, expected, strict=True):
        assert run.plan.choice == other.plan.choice
        if run.result is not None and other.result is not None:
            assert scores(run) == scores(other) and len(scores(run)) >= 2
    assert sum(run.plan.choice is not None for run in kept) == 1


def ids(trial: Trial) -> list[str]:
    return [record.plan.run_id for record in trial.records]
