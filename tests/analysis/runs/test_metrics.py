"""A metric has one direction, scale and bounds, known by its name or declared, never guessed."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.__main__ import main
from analysis.runs.metrics import declared_metric, known_metric
from scaling.errors import UserError
from tests.support.synthetic_study import METRIC, make_study

SIZES = (1000, 3000, 10_000, 30_000, 100_000)


def write_table(path: Path, column: str, scale: float = 1.0) -> Path:
    rows = [
        (model, size, seed, round(scale * (top - 5 * size**-0.4 + 0.002 * seed), 5))
        for model, top in (("vit-b/16", 0.9), ("mixer-b/16", 0.8))
        for size in SIZES
        for seed in (0, 1)
    ]
    pd.DataFrame(rows, columns=["model", "num_images", "seed", column]).to_csv(path, index=False)
    return path


@pytest.mark.parametrize(
    ("name", "direction", "percent"),
    [
        ("unseen/5shot_top1", 1, True), ("upstream/precision_at_1", 1, True), ("val_acc", 1, True),
        ("eval/f1", 1, True),
        ("x/mIoU", 1, True), ("imagenet/real", 1, True), ("upstream/loss", -1, False), ("valLoss", -1, False),
        ("x/top1_error", -1, False), ("x/rmse", -1, False), ("throughput/images_per_second", 1, False),
        ("overfit/loss_gap", -1, False),
    ],
)  # fmt: skip
def test_names_tell_direction_and_scale(name: str, direction: int, percent: bool) -> None:
    metric = known_metric(name)
    assert (metric.direction, metric.is_percent) == (direction, percent)


@pytest.mark.parametrize("name", ["x/score", "x/bleu", "x/5shot_top1_seed0", "x/accuracy_gap"])
def test_a_name_that_says_nothing_is_refused_with_the_way_out(name: str) -> None:
    with pytest.raises(UserError, match="--higher-is-better or --lower-is-better"):
        _ = known_metric(name).direction


def test_an_undeclared_metric_ends_the_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_table(tmp_path / "t.csv", "eval/score")
    assert main(["--from-csv", str(path), "--metric", "eval/score", "--out", str(tmp_path / "out")]) == 2
    assert "--higher-is-better" in capsys.readouterr().err


@pytest.mark.parametrize("column", ["val_acc", "eval/f1", "eval/miou"])
def test_a_rising_curve_is_predicted_to_go_on_rising(tmp_path: Path, column: str) -> None:
    path = write_table(tmp_path / "t.csv", column)
    assert main(["--from-csv", str(path), "--metric", column, "--out", str(tmp_path / "out")]) == 0
    predictions = pd.read_csv(tmp_path / "out" / "predictions.csv")
    assert (predictions["prediction"] > 74).all()
    comparisons = pd.read_csv(tmp_path / "out" / "comparisons.csv")
    assert (comparisons["p_a_better"] < 0.05).all(), "Mixer is the worse of the two"


def test_a_declared_metric_is_printed_in_its_own_scale(tmp_path: Path) -> None:
    path = write_table(tmp_path / "t.csv", "eval/score", scale=100)
    options = ["--metric", "eval/score", "--higher-is-better", "--bounds", "0", "100", "--out", str(tmp_path / "out")]
    assert main(["--from-csv", str(path), *options]) == 0
    predictions = pd.read_csv(tmp_path / "out" / "predictions.csv")
    assert predictions["prediction"].between(74, 100).all()


def test_without_an_upper_bound_there_is_no_law_and_the_report_says_why(tmp_path: Path) -> None:
    path = write_table(tmp_path / "t.csv", "eval/score", scale=100)
    options = ["--metric", "eval/score", "--higher-is-better", "--out", str(tmp_path / "out")]
    assert main(["--from-csv", str(path), *options]) == 0
    assert "declare --bounds LOW HIGH" in (tmp_path / "out" / "report.md").read_text()
    assert not (tmp_path / "out" / "laws.csv").exists()


def test_a_declaration_against_the_name_is_refused() -> None:
    with pytest.raises(UserError, match="higher values are better"):
        declared_metric("x/top1", higher_is_better=False)
    with pytest.raises(UserError, match="LOW HIGH"):
        declared_metric("x/score", bounds=(1.0, 0.0))


def test_impossible_values_of_a_study_are_left_out_with_their_reason(tmp_path: Path) -> None:
    from analysis.runs.load import load_records
    from analysis.runs.summary import without_impossible

    records = load_records([make_study(tmp_path, models=["mixer-b/32"], seeds=(0, 1))])
    records.runs.loc[0, METRIC] = 7.0
    records.runs.loc[1, METRIC] = np.inf
    kept, listed = without_impossible(records, METRIC)
    assert kept.runs[METRIC].isna().sum() == 2
    assert listed["reason"].tolist() == [f"{METRIC} is 7, outside 0 to 1", f"{METRIC} is inf, outside 0 to 1"]
