import numpy as np
import pytest
from scipy.optimize import brentq, least_squares

from analysis.laws.fitting import Prior, fit_form
from analysis.laws.forms import BNSL, FORMS, M1, M2, M3, M4, SHIFTED, Form

X = np.geomspace(1e3, 1e6, 25)
RNG = np.random.default_rng(0)


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_curves_fall_and_stay_finite_wherever_the_parameters_are(form: Form) -> None:
    theta = RNG.uniform(form.lower, form.upper, (300, len(form.parameters)))
    curve = form.log_shape(theta, np.log(np.geomspace(1e-4, 1e4, 60)))
    assert np.isfinite(curve).all()
    assert (np.diff(curve, axis=1) <= 1e-6 * (1 + np.abs(curve[:, :-1]))).all()


def test_m4_solves_its_own_equation() -> None:
    theta = np.array([[np.log(0.4), -0.5, np.log(0.7), -2.0]])
    u = np.log(np.array([0.01, 0.3, 1.0, 5.0]))
    floor, start = np.exp(-0.5), np.exp(-0.5) + 1.0

    def off(f: float, right: float) -> float:
        return float((f - floor) - right * (start - f) ** 0.7)

    for log_f, at in zip(M4.log_shape(theta, u)[0], u, strict=True):
        solved = brentq(off, floor, start, args=(np.exp(-2.0 - 0.4 * at),), xtol=1e-14)
        assert np.exp(log_f) == pytest.approx(solved, rel=1e-6)


def test_m3_m2_and_shifted_agree_with_their_formulas() -> None:
    x, x_max = np.array([10.0, 100.0, 400.0]), 400.0
    u = np.log(x / x_max)
    m3 = np.exp(M3.log_shape(np.array([[np.log(0.5), np.log(0.2)]]), u))[0]
    assert m3 == pytest.approx((x_max / x + 0.2) ** 0.5, rel=1e-12)
    m2 = np.exp(M2.log_shape(np.array([[np.log(0.5), np.log(0.3)]]), u))[0]
    assert m2 == pytest.approx(0.3 + (x / x_max) ** -0.5, rel=1e-12)
    shifted = np.exp(SHIFTED.log_shape(np.array([[np.log(0.5), np.log(0.3), np.log(0.1)]]), u))[0]
    assert shifted == pytest.approx(0.3 + ((x / x_max + 0.1) / 1.1) ** -0.5, rel=1e-12)


def test_bnsl_has_its_two_slopes() -> None:
    theta = np.array([[np.log(0.2), -9.0, np.log(0.9), 0.0, -3.0]])
    u = np.array([-9.0, -8.0, 8.0, 9.0])
    curve = np.log(np.exp(BNSL.log_shape(theta, u)[0]) - np.exp(-9.0))
    assert curve[1] - curve[0] == pytest.approx(-0.2, abs=1e-6)
    assert curve[3] - curve[2] == pytest.approx(-0.9, abs=1e-6)


def test_m1_is_the_regression_line_in_log_log() -> None:
    y = 0.8 * (X / X[0]) ** -0.3 * np.exp(0.05 * RNG.standard_normal(len(X)))
    slope, intercept = np.polyfit(np.log(X), np.log(y), 1)
    at = np.array([5e5, 4e6])
    assert fit_form(M1, X, y).log_predict(at)[0] == pytest.approx(intercept + slope * np.log(at), rel=1e-7)


@pytest.mark.parametrize("form", [M2, M3, SHIFTED], ids=lambda form: form.name)
def test_fit_recovers_a_curve_of_its_own_form(form: Form) -> None:
    theta = np.array([[np.log(0.4), -0.3, -4.0][: len(form.parameters)]])
    y = 0.4 * np.exp(form.log_shape(theta, np.log(X / X[-1])))[0]
    fit = fit_form(form, X, y, ceiling=np.inf)
    assert fit.predict(4 * X)[0] == pytest.approx(
        0.4 * np.exp(form.log_shape(theta, np.log(4 * X / X[-1])))[0], rel=1e-5
    )


def test_optimum_is_not_worse_than_scipys() -> None:
    y = (0.15 + 0.6 * (X / X[0]) ** -0.45) * np.exp(0.01 * RNG.standard_normal(len(X)))

    def residuals(p: np.ndarray) -> np.ndarray:
        return np.asarray(np.log(np.exp(p[0]) + np.exp(p[1]) * (X / X[0]) ** -np.exp(p[2])) - np.log(y))

    best = min(least_squares(residuals, start).cost for start in ([-2, -1, -1], [-1, -0.5, -0.5], [-3, 0, -2]))
    assert fit_form(M2, X, y).cost[0] <= 2 * best * (1 + 1e-5)


def test_a_batch_equals_one_by_one_and_order_does_not_matter() -> None:
    y = (0.2 + 0.5 * (X / X[0]) ** -0.4) * np.exp(0.02 * RNG.standard_normal((3, len(X))))
    together = fit_form(M2, X, y, prior=Prior()).predict(np.array([2e6]))[:, 0]
    alone = [fit_form(M2, X, row, prior=Prior()).predict(np.array([2e6]))[0, 0] for row in y]
    assert together == pytest.approx(alone, rel=1e-6)
    shuffled = RNG.permutation(len(X))
    assert fit_form(M2, X[shuffled], y[0][shuffled], prior=Prior()).predict(np.array([2e6]))[0, 0] == pytest.approx(
        alone[0], rel=1e-6
    )


def test_predictions_of_an_error_never_exceed_one() -> None:
    fit = fit_form(M1, X, 0.9 * (X / X[0]) ** -0.1)
    assert fit.predict(np.array([1.0]))[0, 0] == pytest.approx(1.0)
