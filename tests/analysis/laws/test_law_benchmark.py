"""The fits on public learning curves, against published and independently computed levels."""

import json
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.fit import main

TABLE = Path(__file__).parent / "assets" / "learning_curves.csv"
ARGUMENTS = ["--x", "Seen Examples", "--y", "Loss", "--by", "Task", "Model", "--fit-column", "Training"]


@pytest.fixture(scope="module")
def scores(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """Log error of each estimator on the 18 Caltech101 and three ImageNet curves, rows shuffled; seconds a curve."""
    folder = tmp_path_factory.mktemp("fits")
    table = pd.read_csv(TABLE)
    some = table["Model"].isin(["BiT/50/1", "MiX/B/16", "ViT/B/16"])
    caltech = table["Task"].str.startswith("cal")
    table = table[caltech | ((table["Task"] == "inet_25") & some)].sample(frac=1.0, random_state=0)
    table.to_csv(folder / "table.csv", index=False)
    started = time.process_time()
    assert main([str(folder / "table.csv"), *ARGUMENTS, "--json", str(folder / "fits.json")]) == 0
    seconds = time.process_time() - started
    curves = json.loads((folder / "fits.json").read_text())["curves"]
    rows = [
        {"task": curve["curve"]["Task"], "default": curve["default"]["rmse_log"],
         "inside": curve["default"]["share_of_rows_inside_run_interval"], "seconds": seconds / len(curves),
         "predictions": curve["predictions"], **{name: form["rmse_log"] for name, form in curve["forms"].items()}}
        for curve in curves
    ]  # fmt: skip
    return pd.DataFrame(rows)


def test_m1_equals_an_independent_regression_on_every_curve() -> None:
    """Mean 0.1316 over the 36 curves of the table (recomputed here with polyfit)."""
    errors = []
    for _, rows in pd.read_csv(TABLE).groupby(["Task", "Model"]):
        fit, held = rows[rows["Training"] == 1], rows[rows["Training"] == 0]
        slope, intercept = np.polyfit(np.log(fit["Seen Examples"]), np.log(fit["Loss"]), 1)
        gap = intercept + slope * np.log(held["Seen Examples"]) - np.log(held["Loss"])
        errors.append(np.sqrt(np.mean(gap**2)))
    assert np.mean(errors) == pytest.approx(0.1316, abs=0.0005)


def test_m1_of_the_command_line_is_that_regression(scores: pd.DataFrame) -> None:
    table = pd.read_csv(TABLE)
    errors = []
    for _, rows in table[table["Task"] == "cal_10"].groupby("Model"):
        fit, held = rows[rows["Training"] == 1], rows[rows["Training"] == 0]
        slope, intercept = np.polyfit(np.log(fit["Seen Examples"]), np.log(fit["Loss"]), 1)
        gap = intercept + slope * np.log(held["Seen Examples"]) - np.log(held["Loss"])
        errors.append(np.sqrt(np.mean(gap**2)))
    assert scores.loc[scores["task"] == "cal_10", "M1"].tolist() == pytest.approx(errors, abs=1e-5)


def test_the_default_is_good_where_there_are_many_points_and_better_than_rich_forms_where_few(
    scores: pd.DataFrame,
) -> None:
    many, few = scores[scores["task"] == "inet_25"], scores[scores["task"] != "inet_25"]
    assert many["default"].mean() <= 0.010
    assert few["default"].mean() < min(few["M4"].mean(), few["BNSL"].mean())


def test_intervals_cover_and_predictions_are_sane(scores: pd.DataFrame) -> None:
    assert scores["inside"].mean() >= 0.85
    for predictions in scores["predictions"]:
        errors = [row["error"] for row in predictions]
        assert all(0 < error <= 1 for error in errors)
        assert errors == sorted(errors, reverse=True)
        assert all(row["run_low"] <= row["mean_low"] <= row["mean_high"] <= row["run_high"] for row in predictions)


def test_a_curve_takes_less_than_a_second(scores: pd.DataFrame) -> None:
    assert scores["seconds"].iloc[0] < 1.0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (["--x", "Seen examples"], "did you mean 'Seen Examples'"),
        (["--y", "Model"], "holds text"),
    ],
)
def test_a_wrong_column_is_one_sentence(capsys: pytest.CaptureFixture[str], change: list[str], words: str) -> None:
    assert main([str(TABLE), *ARGUMENTS, *change]) == 2
    message = capsys.readouterr().err
    assert words in message
    assert message.count("\n") == 1


def test_an_accuracy_of_zero_error_is_refused_with_the_curve_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "table.csv"
    path.write_text("n,error,model\n10,0.5,a\n20,0,a\n")
    assert main([str(path), "--x", "n", "--y", "error", "--by", "model"]) == 2
    assert "model a: a law needs at least 2 different sizes, this curve has 1" in (message := capsys.readouterr().err)
    assert "line 3: error is 0.0" in message
