"""Runs that cost the same are compared directly, at each budget and subset size, and nowhere else."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.__main__ import main
from analysis.comparison.compare import at_matched_data
from analysis.comparison.equal_compute import COST_TOLERANCE, at_equal_compute, budgets, frontier, leaders
from analysis.report.compute_section import compute_part
from analysis.runs.conditions import budget_names, clusters
from analysis.runs.load import Records, load_records
from scaling.readable import power_text
from tests.support.synthetic_study import METRIC, Truth, make_study

COSTS = {"mixer-b/32": 8.0, "vit-b/32": 8.0016, "bit-r152x2": 8.001}
"""GFLOPs an image: equal to 0.02 %."""
CURVES = {"mixer-b/32": (0.30, 0.25), "vit-b/32": (0.40, 0.10), "bit-r152x2": (0.50, 0.10)}


def equal_study(root: Path, budgets_in_steps: tuple[int, ...] = (500,), noise: float = 0.004) -> list[Path]:
    """Three models with equal costs; Mixer loses on little data and wins on much."""
    truths = {m: Truth(*CURVES[m], 0.7, 1000, 60_000_000, COSTS[m]) for m in COSTS}
    return [
        make_study(
            root, name=f"budget{steps}", models=list(truths), truths=truths, noise=noise, steps=steps,
            protocol="matched_compute", fractions=(0.1, 1.0), seeds=(0, 1, 2),
        )
        for steps in budgets_in_steps
    ]  # fmt: skip


def records_of(tmp_path: Path, *steps: int) -> Records:
    return load_records(equal_study(tmp_path, steps))


def test_one_budget_is_compared_at_every_subset_size_without_interpolation(tmp_path: Path) -> None:
    records = records_of(tmp_path, 500)
    table = at_equal_compute(records, METRIC)
    assert set(table["kind"]) == {"measured"}
    assert sorted(table["num_images"].unique()) == [1000, 10_000]
    assert len(table) == 3 * 2
    assert table["cost_spread"].max() == pytest.approx(2e-4, rel=0.01)
    plain = at_matched_data(records, METRIC)
    keys = ["model_a", "model_b", "num_images"]
    both = table.merge(plain.rename(columns={"at": "num_images"}), on=keys, suffixes=("", "_data"))
    assert len(both) == 6
    for name in ("difference", "low", "high", "p_a_better", "pairs"):
        assert both[name].tolist() == both[f"{name}_data"].tolist(), "the same event, the same number in every table"


def test_two_budgets_give_differences_at_each_and_between_them(tmp_path: Path) -> None:
    records = records_of(tmp_path, 500, 1500)
    table = at_equal_compute(records, METRIC)
    low, high = (level.flops for level in budgets(records, METRIC))
    middle = np.sqrt(low * high)
    assert table.groupby("kind")["budget"].unique().map(list).to_dict() == {
        "measured": [low, high],
        "interpolated": pytest.approx([middle]),
    }
    for _, rows in table.groupby(["model_a", "model_b", "num_images"]):
        by_budget = rows.set_index("budget")["difference"]
        assert by_budget.iloc[1] == pytest.approx((by_budget.iloc[0] + by_budget.iloc[2]) / 2)
    assert table["low"].notna().all()


def test_costs_beyond_the_tolerance_are_no_common_budget(tmp_path: Path) -> None:
    (study,) = equal_study(tmp_path)
    records = load_records([study])
    records.runs.loc[records.runs["model"] == "vit-b/32", "flops"] *= 1 + 2 * COST_TOLERANCE
    table = at_equal_compute(records, METRIC)
    assert "vit-b/32" not in set(table["model_a"]) | set(table["model_b"])
    assert clusters([1.0, 1.04, 1.08], 0.05) == [(1.0, 1.04), (1.08, 1.08)]


def test_leaders_and_frontier_name_the_best_of_each_budget(tmp_path: Path) -> None:
    records = records_of(tmp_path, 500, 1500)
    ahead = leaders(records, METRIC, at_equal_compute(records, METRIC))
    assert ahead.set_index(["budget", "num_images"])["ahead"].unstack().to_numpy().tolist() == [
        ["vit-b/32", "mixer-b/32"],
        ["vit-b/32", "mixer-b/32"],
    ]
    means = records.runs.groupby(["model", "num_images"])[METRIC].mean()
    assert (ahead["difference"] > 0).all()
    best = frontier(records, METRIC, at_equal_compute(records, METRIC))
    assert best["ahead"].tolist() == ["mixer-b/32"] * 2
    assert best["num_images"].tolist() == [10_000] * 2
    assert means.idxmax() == ("mixer-b/32", 10_000)
    shared = best.merge(ahead, on=["budget", "num_images", "second", "second_num_images"], suffixes=("", "_ahead"))
    assert shared["p_better"].tolist() == shared["p_better_ahead"].tolist()


def test_the_report_of_one_budget_answers_the_question(tmp_path: Path) -> None:
    (study,) = equal_study(tmp_path)
    assert main([str(study)]) == 0
    text = (study / "report" / "report.md").read_text()
    assert "A matched_compute study answers that question" not in text
    assert text.index("## Matched compute") < text.index("## Accuracy and pre-training size")
    assert "costs equal to 0.02 %" in text
    assert "within 5 %" in text
    assert (study / "report" / "compute_map.png").exists()
    assert len(pd.read_csv(study / "report" / "matched_compute.csv")) == 6


def test_the_report_of_two_studies_says_nowhere_that_it_cannot_be_done(tmp_path: Path, undrawn: None) -> None:
    studies = equal_study(tmp_path, (500, 1500))
    assert main([*map(str, studies), "--out", str(tmp_path / "report")]) == 0
    text = (tmp_path / "report" / "report.md").read_text()
    assert "answers that question" not in text
    assert {"compute_map.svg", "matched_compute_budgets.svg", "matched_compute_frontier.tex"} <= {
        path.name for path in (tmp_path / "report").iterdir()
    }


@pytest.mark.parametrize(
    ("value", "text"), [(9.999e11, "10¹²"), (1e12, "10¹²"), (9.98e10, "9.98·10¹⁰"), (3.004e11, "3·10¹¹")]
)
def test_a_mantissa_never_reads_ten(value: float, text: str) -> None:
    assert power_text(value) == text


def test_budgets_have_short_names_that_differ() -> None:
    assert budget_names([9.98e10, 2.998e11]) == ["10¹¹", "3·10¹¹"]
    assert len(set(budget_names([0.996e11, 1.047e11]))) == 2


def test_budgets_are_compared_over_the_runs_that_measured_the_metric_alike(tmp_path: Path) -> None:
    """Another evaluation of one run makes no group of its own; one measured otherwise does, for its metrics alone."""
    records = records_of(tmp_path, 500, 1500)
    odd = records.runs["seed"] == 2
    plain = records.runs["evals"].iloc[0]
    further = plain[:-1] + ',"ten":[{"shots":[10]},{}]}'
    otherwise = plain.replace('"unseen":[{', '"unseen":[{"solver":"ridge"')
    sections = {
        (evals, metric): len(
            compute_part(replace(records, runs=records.runs.assign(evals=np.where(odd, evals, plain))), metric).sections
        )
        for evals in (further, otherwise)
        for metric in (METRIC, "upstream/precision_at_1")
    }
    assert list(sections.values()) == [1, 1, 2, 1]
