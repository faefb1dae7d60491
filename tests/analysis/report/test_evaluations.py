"""Every evaluation is in the report, with the level of chance and the noise of the evaluation itself."""

import math
from dataclasses import replace
from pathlib import Path

import pytest

from analysis.__main__ import main
from analysis.figures.canvas.style import drawing_style
from analysis.figures.evaluations import evaluation_matrix
from analysis.runs.evaluations import chance_level, evaluation_metrics, evaluation_noise
from analysis.runs.load import Records, load_records
from scaling.records.frozen_sweep import write_sweep
from scaling.records.run_plan import SourcePlan
from tests.support.synthetic_study import METRIC, make_study


def with_test_set(records: Records, num_classes: int = 20, num_samples: int = 1000) -> Records:
    """The records, as if the few-shot evaluation had been planned on such a test set, with two support draws."""
    test = SourcePlan(
        manifest="/t", digest="0" * 64, label_type="single", num_classes=num_classes, num_samples=num_samples
    )
    plans = {
        run_id: plan.model_copy(update={"evals": (plan.evals[0].model_copy(update={"sources": {"test": test}}),)})
        for run_id, plan in records.plans.items()
    }
    draws = {f"{METRIC}_seed{seed}": records.runs[METRIC] + move for seed, move in ((0, 0.01), (1, -0.01))}
    return replace(records, plans=plans, runs=records.runs.assign(**draws))


@pytest.fixture
def records(tmp_path: Path) -> Records:
    return with_test_set(load_records([make_study(tmp_path, models=["mixer-b/32", "vit-b/32"], seeds=(0, 1))]))


def test_evaluations_are_all_metrics_but_costs_training_and_single_draws(records: Records) -> None:
    assert evaluation_metrics(records) == [
        METRIC, "unseen/10shot_top1", "upstream/loss", "upstream/precision_at_1",
    ]  # fmt: skip


def test_chance_is_one_over_the_classes_of_a_single_label_test_set(records: Records) -> None:
    assert chance_level(records, METRIC) == pytest.approx(0.05)
    assert chance_level(records, "upstream/precision_at_1") is None, "several labels an image"
    assert chance_level(records, "upstream/loss") is None


def test_noise_is_binomial_and_that_of_the_draws(records: Records) -> None:
    noise = evaluation_noise(records, METRIC)
    assert noise is not None
    assert noise.from_test_images(0.5) == pytest.approx(1.645 * math.sqrt(0.25 / 1000))
    assert noise.from_draws == pytest.approx(1.645 * (0.01 * math.sqrt(2)) / math.sqrt(2))
    assert noise.total(0.5) == pytest.approx(math.hypot(noise.from_test_images(0.5), noise.from_draws))


def test_the_matrix_has_a_panel_and_the_values_of_each_evaluation(records: Records) -> None:
    metrics = evaluation_metrics(records)
    with drawing_style():
        drawing = evaluation_matrix(records, metrics)
    assert drawing is not None
    assert drawing.points.groupby("metric").size().to_dict() == dict.fromkeys(metrics, 8)
    titles = [panel.get_title(loc="left") for panel in drawing.figure.axes if panel.get_title(loc="left")]
    assert titles == [records.metric(metric).title for metric in metrics]


def test_the_report_prints_the_question_and_every_evaluation(tmp_path: Path, undrawn: None) -> None:
    study = make_study(tmp_path, models=["mixer-b/32", "vit-b/32"], seeds=(0, 1))
    write_sweep(study, "study: data_size\nquestion: Which <b>one</b> wins?\n")
    assert main([str(study)]) == 0
    text = (study / "report" / "report.md").read_text()
    assert "Which &lt;b>one&lt;/b> wins?" in text
    assert "## All evaluations" in text
    assert "Bands and intervals cover the spread between runs" in text
    names = {path.name for path in (study / "report").iterdir()}
    assert {"evaluations.png", "evaluation_unseen-10shot-top1.pdf", "evaluation_upstream-loss.svg"} <= names
