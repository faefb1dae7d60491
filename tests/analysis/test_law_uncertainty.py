import numpy as np
import pytest

from analysis.laws.backtest import folds
from analysis.laws.estimator import BASE, choose
from analysis.laws.forms import M2
from analysis.laws.law import fit_law
from scaling.errors import UserError

SIZES = np.repeat([300.0, 1000.0, 3000.0, 10000.0], 3)


def truth(exponent: float, floor_logit: float, x: np.ndarray) -> np.ndarray:
    """0.7 at the smallest size, falling as M2."""
    theta = np.array([[np.log(exponent), floor_logit]])
    shape = M2.log_shape(theta, np.log(np.append(x, SIZES[0]) / SIZES[-1]))[0]
    return np.asarray(0.7 * np.exp(shape[:-1] - shape[-1]))


def test_nominal_90_percent_covers_88_to_92_percent_when_the_form_is_right() -> None:
    """4 sizes x 3 seeds, 1 % noise, three curves, at twice the largest size; 300 studies."""
    rng = np.random.default_rng(12)
    target = np.array([2 * SIZES[-1]])
    inside_mean, inside_run = [], []
    for exponent, floor_logit in ((0.45, 0.4), (0.3, -1.0), (0.8, 1.0)):
        right = float(truth(exponent, floor_logit, target)[0])
        clean = truth(exponent, floor_logit, SIZES)
        for seed in range(100):
            law = fit_law(SIZES, clean * np.exp(0.01 * rng.standard_normal(len(SIZES))), seed=seed)
            row = law.predict(target).iloc[0]
            inside_mean.append(row["mean_low"] <= right <= row["mean_high"])
            new_run = right * np.exp(0.01 * rng.standard_normal())
            inside_run.append(row["run_low"] <= new_run <= row["run_high"])
    assert 0.88 <= np.mean(inside_mean) <= 0.92
    assert 0.88 <= np.mean(inside_run) <= 0.92


def test_one_new_run_is_less_certain_than_the_mean_curve_and_more_runs_narrow_only_the_latter() -> None:
    rng = np.random.default_rng(0)
    widths = []
    for repeats in (1, 8):
        x = np.repeat(SIZES, repeats)
        y = truth(0.45, 0.0, x) * np.exp(0.02 * rng.standard_normal(len(x)))
        row = fit_law(x, y).predict(np.array([20000.0])).iloc[0]
        widths.append((row["mean_high"] - row["mean_low"], row["run_high"] - row["run_low"]))
        assert widths[-1][0] < widths[-1][1]
    assert widths[1][0] < 0.6 * widths[0][0]
    assert widths[1][1] > 0.6 * widths[0][1]


def test_a_bent_curve_gets_a_structural_term_and_a_true_one_does_not() -> None:
    x = np.geomspace(1e3, 1e6, 40)
    straight = truth(0.4, 0.0, x / 100) * np.exp(0.003 * np.random.default_rng(1).standard_normal(40))
    assert fit_law(x, straight).draws.structural_log_sd == 0.0
    late_plunge = 0.6 * (x / x[0]) ** -0.05 / (1 + (x / 2e5) ** 1.5)
    assert fit_law(x, late_plunge).draws.structural_log_sd > 0.01


def test_few_sizes_always_get_the_base_and_say_how_far_they_go() -> None:
    law = fit_law(SIZES, truth(0.5, 0.0, SIZES))
    assert law.choice.estimator is BASE
    assert law.predict(np.array([5000.0, 20000.0, 40000.0]))["doublings_beyond"].tolist() == pytest.approx([0, 1, 2])


def test_the_sensitivity_to_the_window_is_told_even_with_four_sizes() -> None:
    y = truth(0.5, 0.0, SIZES)
    y[np.flatnonzero(SIZES <= 300.0)] *= 1.15
    law = fit_law(SIZES, y)
    told = law.window_sensitivity(20000.0)
    assert next(iter(told)) == "M2, x > 300"
    assert max(told.values()) - min(told.values()) > 0.002
    assert len(fit_law(SIZES[:9], y[:9]).window_sensitivity(6000.0)) == 4


def test_back_tests_never_see_what_they_predict() -> None:
    x = np.repeat(1000 * 2.0 ** np.arange(8), 2)
    for fold in folds(x):
        assert x[fold.train].max() < x[fold.test].min()
        assert x[fold.test].max() <= 2 * fold.origin
    assert len(folds(SIZES)) == 1
    assert folds(SIZES[:9]) == []


def test_rich_forms_are_admitted_only_with_eight_sizes_a_parameter() -> None:
    few = 1000 * 2.0 ** np.arange(10)
    assert list(choose(few, truth(0.4, 0.0, few / 10), 1.0).backtest_error) == [BASE.name]
    many = np.geomspace(1e3, 1e6, 300)
    assert len(choose(many, truth(0.4, 0.0, many / 10), 1.0).backtest_error) > 3


def test_the_same_runs_in_another_order_give_the_same_law() -> None:
    y = truth(0.45, 0.0, SIZES) * np.exp(0.02 * np.random.default_rng(3).standard_normal(len(SIZES)))
    mixed = np.random.default_rng(4).permutation(len(SIZES))
    at = np.array([20000.0])
    assert fit_law(SIZES, y).predict(at).equals(fit_law(SIZES[mixed], y[mixed]).predict(at))


@pytest.mark.parametrize(("x", "y"), [([1.0, 2.0], [0.5, 0.0]), ([1.0, 1.0], [0.5, 0.4]), ([1.0, 2.0], [0.5, np.nan])])
def test_what_cannot_be_fitted_is_refused(x: list[float], y: list[float]) -> None:
    with pytest.raises(UserError):
        fit_law(np.array(x), np.array(y))
