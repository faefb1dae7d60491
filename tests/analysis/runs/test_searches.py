"""Searches in the analysis: trials have a table of their own and are points of nothing else."""

from pathlib import Path

import pytest

from analysis.runs.load import load_records
from analysis.runs.searches import cell_table
from scaling.launch.study_dir import write_study
from scaling.records.run_plan import RunPlan
from scaling.records.scores.search_plan import TrialPlan
from scaling.spec.document import Document
from tests.support.run_plans import run_plan
from tests.support.scripted_backend import result_of

SPACE = {"learning_rate": {"choice": [1e-4, 1e-3, 1e-2]}}


def trial(number: int, rate: float) -> RunPlan:
    place = TrialPlan(
        cell={"model": "mixer-s/32"},
        number=number,
        values={"learning_rate": rate},
        space=SPACE,
        search="grid",
        metric="upstream/precision_at_1",
    )
    return run_plan(learning_rate=rate, seed=1000).model_copy(update={"trial": place})


@pytest.mark.parametrize(
    ("accuracies", "chosen", "edge"),
    [
        ([0.1, 0.5, 0.2], "learning_rate 0.001", "no"),
        ([0.1, 0.2, 0.5], "learning_rate 0.01", "nothing tried above learning_rate 0.01"),
        ([0.1, 0.5, None], "learning_rate 0.001", "nothing tried above learning_rate 0.001"),
    ],
)
def test_trials_are_told_apart_from_runs(
    tmp_path: Path, accuracies: list[float | None], chosen: str, edge: str
) -> None:
    trials = [trial(number, rate) for number, rate in enumerate(SPACE["learning_rate"]["choice"])]
    final = run_plan(learning_rate=1e-3, seed=0)
    write_study(tmp_path, Document(tmp_path / "sweep.yaml", {"study": "test"}), [*trials, final])
    for plan, accuracy in zip([*trials, final], [*accuracies, 0.4], strict=True):
        if accuracy is not None:
            result_of(plan, accuracy).save(tmp_path / plan.run_id)
    records = load_records([tmp_path])
    assert list(records.runs["run_id"]) == [final.run_id] and records.excluded.empty
    assert list(records.searches["run_ids"]) == [plan.run_id for plan in trials]
    (row,) = cell_table(records.searches).to_dict("records")
    assert (row["chosen"], row["at an edge"]) == (chosen, edge)
    assert row["searched"] == "learning_rate 0.0001 or 0.001 or 0.01"
    assert row["without a score"] == accuracies.count(None)
