"""Run folders that lie elsewhere, and a study whose plan is that of another."""

import shutil
from pathlib import Path

import pandas as pd
import pytest

from analysis.runs.load import load_records
from scaling.bench.synthetic_study import METRIC, WEIGHTS, Truth, evaluation_of, make_study
from scaling.errors import UserError
from scaling.records.evaluation import Evaluation
from scaling.records.result import RunResult
from scaling.records.run_plan import EvalPlan, RunPlan

TRUTHS = {
    "vit-s/16": Truth(
        floor=0.2, scale=0.2, exponent=0.6, images_per_second=1e3, num_body_params=10**7, gflops_forward=4.0
    )
}


def study_in(folder: Path, name: str, fraction: float) -> Path:
    return make_study(folder, name=name, models=list(TRUTHS), truths=TRUTHS, fractions=(fraction,), seeds=range(2))


def test_a_run_moved_to_another_disk_counts_once_through_a_link_of_its_name(tmp_path: Path) -> None:
    study = study_in(tmp_path, "study", 1.0)
    before = load_records([study])
    run, other = sorted(before.runs["run_id"])
    shutil.move(study / run, tmp_path / "elsewhere")
    (study / run).symlink_to(tmp_path / "elsewhere")
    (study / "a-link-to-the-other").symlink_to(study / other)
    after = load_records([study])
    pd.testing.assert_frame_equal(after.runs, before.runs)
    assert set(after.excluded["status"]) <= {"duplicate", "done"}


def test_the_plan_of_another_study_is_told_as_why_no_run_counts(tmp_path: Path) -> None:
    study, other = study_in(tmp_path, "study", 1.0), study_in(tmp_path, "other", 0.5)
    shutil.copy(other / "plan.json", study)
    with pytest.raises(UserError, match=r"2 done and not in the study's current plan \(plan.json\)"):
        load_records([study])


def test_one_study_under_two_spellings_is_read_once(tmp_path: Path) -> None:
    study = study_in(tmp_path, "study", 1.0)
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "link"
    link.symlink_to(study)
    found = load_records([study, tmp_path / "elsewhere" / ".." / "study", link])
    pd.testing.assert_frame_equal(found.runs, load_records([study]).runs)
    assert found.excluded.empty


@pytest.mark.parametrize("weights", [WEIGHTS, "1" * 64])
def test_a_copy_of_a_run_gives_the_scores_that_only_it_has(tmp_path: Path, weights: str) -> None:
    """Whichever folder comes first, as long as both hold the same weights; else the lost scores are named."""
    for scored, name in ((0, "ab"), (1, "ba")):
        study = study_in(tmp_path / name, "study", 1.0)
        copy = tmp_path / name / "copy"
        shutil.copytree(study, copy)
        run_dir = sorted(((copy, study)[scored]).glob("*_s0-*"))[0]
        plan, result = RunPlan.load(run_dir), RunResult.load(run_dir)
        assert result is not None
        asked = EvalPlan(kind="fewshot", name="ten", added=True)
        plan.model_copy(update={"evals": (*plan.evals, asked)}).save(run_dir)
        for one, value in ((asked, {"ten/5shot_top1": 0.5}), (plan.evals[0], {METRIC: 0.25})):
            record = evaluation_of(plan, one, value, "Test CPU")
            record.model_copy(update={"weights_sha256": weights}).save(run_dir)
        for other in plan.evals[1:]:
            record = Evaluation.load(run_dir, other.name)
            assert record is not None
            record.model_copy(update={"weights_sha256": weights}).save(run_dir)
        result.model_copy(update={"weights_sha256": weights}).save(run_dir)
        found = load_records([study, copy])
        assert len(found.runs) == 2 and len(found.excluded) == 2
        (told,) = found.excluded.loc[found.excluded["run_id"] == plan.run_id, "reason"]
        if weights == WEIGHTS:
            assert found.runs["ten/5shot_top1"].dropna().tolist() == [0.5]
            assert "left out are its other scores of unseen" in told
            assert ("its scores of ten are taken over" in told) == (scored == 1)
        elif scored == 1:
            assert "ten/5shot_top1" not in found.runs
            assert "left out are its scores, of other weights, of ten, unseen" in told
