"""Run folders that lie elsewhere, and a study whose plan is that of another."""

import shutil
from pathlib import Path

import pandas as pd
import pytest

from analysis.runs.load import load_records
from scaling.bench.synthetic_study import Truth, make_study
from scaling.errors import UserError

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
