"""A corrected count of a model's FLOPs reaches the figures of runs that were trained before; two counts are refused."""

from dataclasses import replace
from pathlib import Path

import pytest

from analysis.runs.load import load_records
from analysis.runs.rows import read_rows, with_known_counts
from scaling.errors import UserError
from scaling.launch.study_dir import find_standings, write_study
from scaling.records.result import RunResult
from scaling.records.run_plan import RunPlan
from scaling.spec.document import Document
from tests.support.synthetic_study import TRUTHS, make_plan, make_study


def plan_again(study: Path, factor: float) -> list[RunPlan]:
    """As by a launch with a version that counts the models' FLOPs differently."""
    plans = []
    for path in sorted(study.glob("*/run.json")):
        plan = RunPlan.load(path.parent)
        truth = TRUTHS[plan.model.name]
        counted = replace(truth, gflops_forward=factor * truth.gflops_forward)
        asked = (plan.model.name, counted, plan.subset.fraction, plan.seed)
        plans.append(make_plan(study.name, *asked, full_size=10_000, protocol="constant_steps", steps=500))
    write_study(study, Document(study / "sweep.yaml", {"study": study.name}), plans)
    return plans


def test_a_study_planned_again_is_shown_with_the_corrected_count(tmp_path: Path) -> None:
    study = make_study(tmp_path, models=["mixer-b/32"], seeds=(0,))
    before = load_records([study])
    plans = plan_again(study, 2.0)
    assert all(run.standing.is_finished for run in find_standings(study, plans)), "nothing is trained for it"
    after = load_records([study])
    assert after.runs["flops"].tolist() == pytest.approx((2 * before.runs["flops"]).tolist())
    assert after.runs["flops_forward_per_image"].tolist() == (2 * before.runs["flops_forward_per_image"]).tolist()
    rows = with_known_counts(read_rows(after.run_dirs.values())[0].to_pandas(), after.plans)
    last = rows.groupby("run_id")["flops"].max()
    assert last.to_dict() == pytest.approx(dict(zip(after.runs["run_id"], after.runs["flops"], strict=True)))
    result = RunResult.load(next(iter(after.run_dirs.values())))
    assert result is not None and result.flops == before.runs["flops"].iloc[0], "what training wrote is never touched"


def test_runs_that_count_one_model_differently_are_refused(tmp_path: Path) -> None:
    studies = [make_study(tmp_path, name=name, models=["mixer-b/32"], seeds=(seed,)) for seed, name in enumerate("ab")]
    assert len(load_records(studies).runs) == 8
    plan_again(studies[1], 2.0)
    with pytest.raises(UserError, match=r"mixer-b/32 is counted as .* in a/.* in b/.*; launch their studies again"):
        load_records(studies)
