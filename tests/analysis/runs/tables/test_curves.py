"""Tables as people have them: gaps, zeros, infinities, text, repeated rows, single sizes, other units."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.fit import main
from analysis.runs.metrics import known_metric
from analysis.runs.tables.curves import read_curves

SIZES = 1000.0 * 2.0 ** np.arange(8)
ERRORS = 0.2 + 0.5 * (SIZES / SIZES[0]) ** -0.5


def write(folder: Path, **columns: object) -> Path:
    path = folder / "table.csv"
    pd.DataFrame(columns).to_csv(path, index=False)
    return path


def fitted(path: Path, folder: Path, *more: str) -> dict[str, list[dict[str, float]]]:
    assert main([str(path), "--x", "n", "--y", "error", "--json", str(folder / "fits.json"), *more]) == 0
    (curve,) = json.loads((folder / "fits.json").read_text())["curves"]
    return dict(curve)


@pytest.mark.parametrize(
    ("size", "error", "words"),
    [
        (0.0, 0.9, "line 10: n is 0.0"),
        (500.0, np.nan, "line 10: error is nan"),
        (500.0, 0.0, "line 10: error is 0.0"),
        (np.inf, 0.1, "line 10: n is inf"),
        ("?", 0.1, "line 10: n is ?"),
    ],
)
def test_a_row_that_has_no_logarithm_is_left_out_and_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], size: object, error: float, words: str
) -> None:
    whole = fitted(write(tmp_path, n=SIZES, error=ERRORS), tmp_path)
    path = write(tmp_path, n=[*SIZES, size], error=[*ERRORS, error])
    assert fitted(path, tmp_path)["predictions"] == whole["predictions"]
    assert words in capsys.readouterr().err


def test_a_number_that_is_written_for_people_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Left out, it would leave a law of the other rows behind."""
    for size, error, told in (
        ("1,000", 0.1, "n is '1,000'"),
        (1000, "10%", "error is '10%'"),
        ("2k", 0.1, "n is '2k'"),
    ):
        path = write(tmp_path, n=[*SIZES, size], error=[*ERRORS, error])
        assert main([str(path), "--x", "n", "--y", "error"]) == 2
        assert f".csv:10: {told}, which is no number" in capsys.readouterr().err


@pytest.mark.parametrize(
    "make",
    [
        lambda: ERRORS,
        lambda: np.full(8, 0.3),
        lambda: np.full(8, 1.0),
        lambda: ERRORS[::-1],
        lambda: np.minimum(ERRORS * np.exp(0.3 * np.random.default_rng(0).standard_normal(8)), 1.0),
        lambda: ERRORS * 1e-6,
    ],
    ids=["falling", "constant", "all wrong", "rising", "noisy", "tiny"],
)
def test_predictions_are_finite_falling_and_inside_0_to_1(tmp_path: Path, make: Callable[[], np.ndarray]) -> None:
    path = write(tmp_path, n=np.repeat(SIZES, 2), error=np.repeat(make(), 2))
    rows = fitted(path, tmp_path, "--lower-is-better", "--at", "1", "3e3", "1e6", "1e9", "1e30")["predictions"]
    values = pd.DataFrame(rows)
    assert np.isfinite(values).all(axis=None)
    assert values["error"].is_monotonic_decreasing
    assert values[["error", "mean_low", "mean_high", "run_low", "run_high"]].stack().between(0, 1).all()


def test_the_unit_of_size_and_error_only_scales_the_answer(tmp_path: Path) -> None:
    """An error rate below 1 and the same in percent differ by the ceiling alone, which these curves do not touch."""
    fraction = fitted(write(tmp_path, n=SIZES, error=ERRORS), tmp_path)["predictions"][0]
    percent = fitted(write(tmp_path, n=SIZES / 1e3, error=100 * ERRORS), tmp_path)["predictions"][0]
    for name in ("error", "mean_low", "run_high"):
        assert percent[name] == pytest.approx(100 * fraction[name], rel=1e-6)


def test_without_noise_the_curve_lies_inside_its_own_narrow_interval(tmp_path: Path) -> None:
    path = write(tmp_path, n=np.repeat(SIZES, 3), error=np.repeat(ERRORS, 3))
    (row,) = fitted(path, tmp_path)["predictions"]
    assert row["mean_low"] <= row["error"] <= row["mean_high"]
    assert row["error"] == pytest.approx(0.2 + 0.5 * 256**-0.5, rel=2e-3)


def test_a_curve_without_a_law_does_not_cost_the_others_theirs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path, model=["a"] * 8 + [None], n=[*SIZES, 1000], error=[*ERRORS, 0.4])
    assert main([str(path), "--x", "n", "--y", "error", "--by", "model", "--json", str(tmp_path / "f.json")]) == 1
    shown = capsys.readouterr()
    assert "model nan: a law needs at least 2 different sizes" in shown.err
    assert [curve["curve"]["model"] for curve in json.loads((tmp_path / "f.json").read_text())["curves"]] == ["a"]


@pytest.mark.parametrize(
    ("held", "words"),
    [(["a"] * 8, "table.csv:2: held is a"), ([1] * 7 + [None], "table.csv:9: held is nan"),
     ([1] * 7 + [2], "table.csv:9: held is 2"), ([0] * 8, "this curve has 0")],
)  # fmt: skip
def test_a_fit_column_holds_1_and_0(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], held: list[object], words: str
) -> None:
    path = write(tmp_path, n=SIZES, error=ERRORS, held=held)
    assert main([str(path), "--x", "n", "--y", "error", "--fit-column", "held"]) == 2
    assert words in capsys.readouterr().err


def test_no_held_out_row_gives_predictions_instead_of_scores(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path, n=SIZES, error=ERRORS, held=[True] * 8)
    assert main([str(path), "--x", "n", "--y", "error", "--fit-column", "held"]) == 0
    assert "doublings beyond" in capsys.readouterr().out


def test_rows_are_sorted_by_size_and_parted_by_the_fit_column(tmp_path: Path) -> None:
    path = write(tmp_path, n=SIZES[::-1], error=ERRORS[::-1], held=[0, 0, *[1] * 6])
    (curve,) = read_curves(path, "n", known_metric("error"), (), "held")
    assert curve.x.tolist() == SIZES[:6].tolist()
    assert curve.held_x.tolist() == SIZES[6:].tolist()


@pytest.mark.parametrize(
    ("column", "options", "words"),
    [
        ("err", (), "err rises with n, and laws are of errors that fall; if it is an accuracy, name the column so"),
        ("score", (), "score rises with n, and laws are of errors that fall; say --higher-is-better --bounds 0 1"),
        ("score", ("--higher-is-better",), "score has no best value to approach; declare --bounds LOW HIGH"),
        ("err", ("--higher-is-better",), "err is known as a metric whose lower values are better"),
    ],
)
def test_values_that_rise_ask_for_their_direction(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], column: str, options: tuple[str, ...], words: str
) -> None:
    path = write(tmp_path, n=SIZES, **{column: 1 - ERRORS})
    assert main([str(path), "--x", "n", "--y", column, *options]) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(("column", "options"), [("top1", ()), ("score", ("--higher-is-better", "--bounds", "0", "1"))])
def test_an_accuracy_gives_the_law_of_its_error(tmp_path: Path, column: str, options: tuple[str, ...]) -> None:
    wanted = fitted(write(tmp_path, n=SIZES, error=ERRORS), tmp_path)["predictions"]
    path = write(tmp_path, n=SIZES, **{column: 1 - ERRORS})
    out = tmp_path / "fits.json"
    assert main([str(path), "--x", "n", "--y", column, "--json", str(out), *options]) == 0
    (curve,) = json.loads(out.read_text())["curves"]
    assert curve["predictions"][0]["error"] == pytest.approx(wanted[0]["error"], rel=1e-6)


def test_an_accuracy_outside_its_bounds_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path, n=SIZES, top1=100 * (1 - ERRORS))
    assert main([str(path), "--x", "n", "--y", "top1"]) == 2
    assert "table.csv:2: top1 is 30.0" in capsys.readouterr().err
