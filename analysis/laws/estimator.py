"""The default estimator: the power law with floor (M2) and a weak prior on the last three doublings.

At least four sizes are used. Error curves bend, and a law fitted to their far past extrapolates worse. Richer forms
are fitted for comparison by `analysis.fit`; choosing among them by three back-tests predicted no better.
"""

from dataclasses import dataclass

import numpy as np

from analysis.laws.backtest import Fold, folds
from analysis.laws.fitting import Fit, Prior, fit_form
from analysis.laws.forms import M2, Array, Form

MIN_WINDOW_SIZES = 4
QUICK_ITERATIONS = 30
_USUAL_PRIOR = Prior()


@dataclass(frozen=True, slots=True)
class Estimator:
    """A form and the part of the curve that it is fitted to."""

    form: Form
    window: float | None
    """Points from x_max / window on and the MIN_WINDOW_SIZES largest sizes are used; None for all points."""

    @property
    def name(self) -> str:
        """The form, and which points are used."""
        if self.window is None:
            return f"{self.form.name}, all sizes"
        return f"{self.form.name}, x >= x_max/{self.window:g} or among the {MIN_WINDOW_SIZES} largest sizes"

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


@dataclass(frozen=True, slots=True)
class Choice:
    """The estimator of a curve, and its back-test error."""

    estimator: Estimator
    backtest_error: dict[str, float]
    """Root mean square log error over the folds by estimator name; empty without folds."""


def choose(x: Array, y: Array, ceiling: float) -> Choice:
    """The estimator for one curve (x ascending or not) with what its back-tests say."""
    tests = folds(x)
    return Choice(BASE, {BASE.name: backtest_error(BASE, x, y, tests, ceiling)} if tests else {})


def backtest_error(estimator: Estimator, x: Array, y: Array, tests: list[Fold], ceiling: float) -> float:
    """Root of the mean over folds of the mean squared log error."""
    squares = []
    for fold in tests:
        fit = estimator.fit(x[fold.train], y[fold.train], ceiling)
        squares.append(np.mean((fit.log_predict(x[fold.test])[0] - np.log(y[fold.test])) ** 2))
    return float(np.sqrt(np.mean(squares)))
