"""The default estimator: which form, fitted to which window.

The base is the power law with floor (M2) and a weak prior, fitted to the last three doublings and at least four
sizes: error curves bend, and a law fitted to their far past extrapolates worse. Another form or window replaces
it only where there are many points (8 for each parameter, also at the latest back-test origin) and where its
rolling-origin error is clearly smaller. So a study of few sizes always gets the base.
"""

from dataclasses import dataclass

import numpy as np

from analysis.laws.backtest import Fold, folds
from analysis.laws.fitting import Fit, Prior, fit_form
from analysis.laws.forms import BNSL, M2, M4, SHIFTED, Array, Form

MIN_WINDOW_SIZES = 4
POINTS_PER_PARAMETER = 8
CLEARLY_SMALLER = 0.7
"""A rival's back-test error must be below this share of the base's."""
QUICK_ITERATIONS = 30
_USUAL_PRIOR = Prior()


@dataclass(frozen=True, slots=True)
class Estimator:
    """A form and the part of the curve that it is fitted to."""

    form: Form
    window: float | None
    """Points from x_max / window on are used; None for all points."""

    @property
    def name(self) -> str:
        return f"{self.form.name}, {'all sizes' if self.window is None else f'x >= x_max/{self.window:g}'}"

    def used(self, x: Array) -> Array:
        """[N] bool: the points inside the window, at least MIN_WINDOW_SIZES sizes of them."""
        if self.window is None:
            return np.ones(len(x), dtype=bool)
        sizes = np.unique(x)
        start = min(sizes[-min(MIN_WINDOW_SIZES, len(sizes))], sizes[-1] / self.window)
        return np.asarray(x >= start * (1 - 1e-9))

    def fit(self, x: Array, y: Array, ceiling: float, prior: Prior = _USUAL_PRIOR) -> Fit:
        """A quick fit, for comparing windows and forms; a law's own curve is polished further."""
        used = self.used(x)
        return fit_form(self.form, x[used], y[used], prior=prior, ceiling=ceiling, max_iterations=QUICK_ITERATIONS)


BASE = Estimator(M2, 8)
RIVALS = (
    Estimator(M2, 4),
    Estimator(M2, 16),
    Estimator(SHIFTED, 16),
    Estimator(SHIFTED, 64),
    Estimator(M4, None),
    Estimator(BNSL, None),
)


@dataclass(frozen=True, slots=True)
class Choice:
    """The estimator chosen for a curve, and the back-test errors of all that were admitted."""

    estimator: Estimator
    backtest_error: dict[str, float]
    """Root mean square log error over the folds by estimator name; empty without folds."""


def choose(x: Array, y: Array, ceiling: float) -> Choice:
    """Pick the estimator for one curve (x ascending or not)."""
    tests = folds(x)
    if not tests:
        return Choice(BASE, {})
    admitted = [BASE, *(rival for rival in RIVALS if _enough_points(rival, x, tests[0]))]
    errors = {estimator.name: backtest_error(estimator, x, y, tests, ceiling) for estimator in admitted}
    best = min(admitted, key=lambda estimator: errors[estimator.name])
    clear = errors[best.name] < CLEARLY_SMALLER * errors[BASE.name]
    return Choice(best if clear else BASE, errors)


def backtest_error(estimator: Estimator, x: Array, y: Array, tests: list[Fold], ceiling: float) -> float:
    """Root of the mean over folds of the mean squared log error."""
    squares = []
    for fold in tests:
        fit = estimator.fit(x[fold.train], y[fold.train], ceiling)
        squares.append(np.mean((fit.log_predict(x[fold.test])[0] - np.log(y[fold.test])) ** 2))
    return float(np.sqrt(np.mean(squares)))


def _enough_points(estimator: Estimator, x: Array, latest: Fold) -> bool:
    needed = POINTS_PER_PARAMETER * estimator.form.num_params
    known = x[latest.train]
    return bool(
        len(np.unique(x[estimator.used(x)])) >= needed and len(np.unique(known[estimator.used(known)])) >= needed
    )
