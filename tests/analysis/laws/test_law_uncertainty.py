from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binom

from analysis.laws.backtest import folds
from analysis.laws.curve_prior import SpreadPrior, drift_covariance
from analysis.laws.estimator import BASE, choose
from analysis.laws.forms import M2
from analysis.laws.law import fit_law
from analysis.laws.study_laws import study_laws
from analysis.report.law_tables import law_table
from analysis.report.methods import methods_text
from analysis.runs.load import load_records
from scaling.errors import UserError
from tests.support.synthetic_study import METRIC, make_study

SIZES = np.repeat([300.0, 1000.0, 3000.0, 10000.0], 3)


def truth(exponent: float, floor_logit: float, x: np.ndarray) -> np.ndarray:
    """0.7 at the smallest size, falling as M2."""
    theta = np.array([[np.log(exponent), floor_logit]])
    shape = M2.log_shape(theta, np.log(np.append(x, SIZES[0]) / SIZES[-1]))[0]
    return np.asarray(0.7 * np.exp(shape[:-1] - shape[-1]))


def least_hits(num_cases: int) -> int:
    """Hits that a true 90 % interval falls below once in 10,000 times."""
    return int(binom.ppf(1e-4, num_cases, 0.9))


def test_90_percent_intervals_hold_when_the_form_is_right() -> None:
    """4 sizes x 3 seeds, 1 % noise, three curves, at twice the largest size; a fresh seed each time. That the curve may
    drift ahead of the data makes them wider than this case needs, never narrower."""
    entropy = np.random.SeedSequence().entropy
    rng = np.random.default_rng(entropy)
    target = np.array([2 * SIZES[-1]])
    inside_mean, inside_run = [], []
    for exponent, floor_logit in ((0.45, 0.4), (0.3, -1.0), (0.8, 1.0)):
        right = float(truth(exponent, floor_logit, target)[0])
        clean = truth(exponent, floor_logit, SIZES)
        for seed in range(60):
            law = fit_law(SIZES, clean * np.exp(0.01 * rng.standard_normal(len(SIZES))), seed=seed)
            row = law.predict(target).iloc[0]
            inside_mean.append(row["mean_low"] <= right <= row["mean_high"])
            new_run = right * np.exp(0.01 * rng.standard_normal())
            inside_run.append(row["run_low"] <= new_run <= row["run_high"])
    assert np.sum(inside_mean) >= least_hits(180), entropy
    assert np.sum(inside_run) >= least_hits(180), entropy


def test_90_percent_intervals_hold_when_curves_drift_as_the_prior_says() -> None:
    """Curves drawn from the prior itself: drift and noise of random size, for which an interval that leaves the drift
    out is far too narrow."""
    entropy = np.random.SeedSequence().entropy
    rng = np.random.default_rng(entropy)
    prior = SpreadPrior()
    sizes, target = np.repeat(1000 * 2.0 ** np.arange(8), 2), 1000 * 2.0**8
    known, every = np.unique(sizes), np.append(np.unique(sizes), target)
    past = drift_covariance(np.log2(known[-1] / known[:-1]))
    hits, narrow_hits = 0, 0
    for seed in range(150):
        drift_sd, run_sd = (
            centre * np.exp(prior.log_width * rng.standard_normal()) for centre in (prior.drift, prior.run)
        )
        drift = np.zeros(9)
        drift[:7] = rng.multivariate_normal(np.zeros(7), past)
        drift[8] = rng.standard_normal() * drift_covariance(np.ones(1))[0, 0] ** 0.5
        clean = dict(zip(every, np.log(truth(0.4, 0.0, every / 3)) + drift_sd * drift, strict=True))
        y = np.exp([clean[size] + run_sd * rng.standard_normal() for size in sizes])
        new_run = np.exp(clean[target] + run_sd * rng.standard_normal())
        law = fit_law(sizes, y, seed=seed)
        row = law.predict(np.array([target])).iloc[0]
        hits += bool(row["run_low"] <= new_run <= row["run_high"])
        half = 1.645 * np.median(law.draws.run_log_sd)
        narrow_hits += bool(abs(np.log(new_run / row["error"])) <= half)
    assert hits >= least_hits(150), entropy
    assert narrow_hits < least_hits(150), entropy


def test_one_new_run_is_less_certain_than_the_mean_curve_and_more_runs_narrow_the_latter() -> None:
    rng = np.random.default_rng(0)
    widths = []
    for repeats in (1, 8):
        x = np.repeat(SIZES, repeats)
        y = truth(0.45, 0.0, x) * np.exp(0.02 * rng.standard_normal(len(x)))
        row = fit_law(x, y).predict(np.array([20000.0])).iloc[0]
        widths.append((row["mean_high"] - row["mean_low"], row["run_high"] - row["run_low"]))
        assert widths[-1][0] < widths[-1][1]
    assert widths[1][0] < 0.8 * widths[0][0]
    assert widths[1][1] > 0.6 * widths[0][1]


def test_the_drift_is_never_zero_and_larger_for_a_bent_curve() -> None:
    x = np.geomspace(1e3, 1e6, 40)
    straight = truth(0.4, 0.0, x / 100) * np.exp(0.003 * np.random.default_rng(1).standard_normal(40))
    bent = 0.6 * (x / x[0]) ** -0.05 / (1 + (x / 2e5) ** 1.5)
    drifts = [fit_law(x, y).draws.structural_log_sd for y in (straight, bent)]
    assert 0 < drifts[0] < drifts[1] / 2


def test_few_sizes_always_get_the_base_and_say_how_far_they_go() -> None:
    law = fit_law(SIZES, truth(0.5, 0.0, SIZES))
    assert law.choice.estimator is BASE
    assert law.predict(np.array([5000.0, 20000.0, 40000.0]))["doublings_beyond"].tolist() == pytest.approx([0, 1, 2])


def test_the_sensitivity_to_the_window_is_told_even_with_four_sizes() -> None:
    y = truth(0.5, 0.0, SIZES)
    y[np.flatnonzero(SIZES <= 300.0)] *= 1.15
    law = fit_law(SIZES, y)
    told = law.window_sensitivity(np.array([20000.0]))
    assert next(iter(told)) == "M2, x > 300"
    assert max(told.values()) - min(told.values()) > 0.002
    assert len(fit_law(SIZES[:9], y[:9]).window_sensitivity(np.array([6000.0]))) == 4


def test_back_tests_never_see_what_they_predict() -> None:
    x = np.repeat(1000 * 2.0 ** np.arange(8), 2)
    for fold in folds(x):
        assert x[fold.train].max() < x[fold.test].min()
        assert x[fold.test].max() <= 2 * fold.origin
    assert len(folds(SIZES)) == 1
    assert folds(SIZES[:9]) == []


@pytest.mark.parametrize("sizes", [1000 * 2.0 ** np.arange(10), np.geomspace(1e3, 1e6, 300)])
def test_the_base_is_taken_whatever_the_number_of_sizes(sizes: np.ndarray) -> None:
    assert list(choose(sizes, truth(0.4, 0.0, sizes / 10), 1.0).backtest_error) == [BASE.name]


def test_the_same_runs_in_another_order_give_the_same_law() -> None:
    y = truth(0.45, 0.0, SIZES) * np.exp(0.02 * np.random.default_rng(3).standard_normal(len(SIZES)))
    mixed = np.random.default_rng(4).permutation(len(SIZES))
    at = np.array([20000.0])
    assert fit_law(SIZES, y).predict(at).equals(fit_law(SIZES[mixed], y[mixed]).predict(at))


@pytest.mark.parametrize(("x", "y"), [([1.0, 2.0], [0.5, 0.0]), ([1.0, 1.0], [0.5, 0.4]), ([1.0, 2.0], [0.5, np.nan])])
def test_what_cannot_be_fitted_is_refused(x: list[float], y: list[float]) -> None:
    with pytest.raises(UserError):
        fit_law(np.array(x), np.array(y))


def test_what_is_said_of_a_window_holds_of_the_points_that_are_used(tmp_path: Path) -> None:
    """Four sizes over a factor of 33 are all used, which x >= x_max/8 alone would deny."""
    records = load_records([make_study(tmp_path, models=["mixer-b/32"], fractions=(0.03, 0.1, 0.3, 1.0))])
    laws, _ = study_laws(records, METRIC)
    (law,) = laws.values()
    assert law.window == (300, 10_000)
    assert law.choice.estimator.name == "M2, x >= x_max/8 or among the 4 largest sizes"
    told = methods_text(records, METRIC, laws, 0)
    assert "x >= x_max/8 or among the 4 largest sizes: 300 to 10k images, 12 of 12 runs" in told
    assert law_table(records, laws)["window"].tolist() == ["300 to 10k"]
