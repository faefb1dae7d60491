"""How sure a fitted curve is: draws from resampled runs, and a structural term from back-tests.

The independent unit is a training run; every run is drawn anew from the run-to-run spread (the spread of its own size
where repeats tell it, pooled otherwise), the prior's centre is drawn from the prior, and the law is fitted again.
That answers "how well is this curve known if the form is right". Where back-tests miss by more than that can
explain, the form is not quite right, and their error per doubling is added to what lies beyond the data.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import chdtri, ndtri

from analysis.laws.backtest import folds
from analysis.laws.estimator import BASE, Estimator
from analysis.laws.fitting import Fit, Prior, fit_form
from analysis.laws.forms import Array

NUM_DRAWS = 200
NUM_FOLD_DRAWS = 100
MIN_DEGREES_OF_FREEDOM = 4.0
"""Below this many, the run-to-run spread leans on `Prior.log_error`."""
STRUCTURE_TEST_LEVEL = 0.10
_NOISE_LEVELS = 25


@dataclass(frozen=True, slots=True)
class Draws:
    """Curves that the data allow, in rows."""

    centre: Fit
    """The fit to the data as they are."""
    prior_log_error: float
    """Run spread against which the prior of `centre` was weighed."""
    curves: Fit
    """[B] refitted curves."""
    run_log_sd: Array
    """[B] drawn standard deviation of the log error of one run."""
    run_noise: Array
    """[B, N] standardised noise of each run of the data, in their order."""
    normal: Array
    """[B] standard normal numbers that carry the structural term."""
    structural_log_sd: float
    """Structural standard deviation, log error per doubling beyond the data; 0 when back-tests show none."""
    x_max: float
    """Largest x of the data."""

    def log_mean_curve(self, x: Array) -> Array:
        """[B, N] draws of the log of the mean curve."""
        beyond = np.maximum(np.log2(np.asarray(x, dtype=float) / self.x_max), 0.0)
        return self.curves.log_predict(x) + self.structural_log_sd * self.normal[:, None] * beyond

    def log_new_run(self, x: Array) -> Array:
        """[B * K, N] draws of the log error of one further run at each x; each curve with K evenly likely noises."""
        levels = ndtri((np.arange(_NOISE_LEVELS) + 0.5) / _NOISE_LEVELS)
        noisy = self.log_mean_curve(x)[:, None] + self.run_log_sd[:, None, None] * levels[:, None]
        return noisy.reshape(-1, noisy.shape[-1])


def draw_curves(
    estimator: Estimator, x: Array, y: Array, *, ceiling: float, seed: int = 0, num_draws: int = NUM_DRAWS,
    noise: Array | None = None
) -> Draws:  # fmt: skip
    """Resample the runs (x[N], y[N]) and refit; `noise` [B, N] replaces the normal numbers of the runs, so that two
    models compared can share them."""
    rng = np.random.default_rng(seed)
    own_noise = rng.standard_normal((num_draws, len(x)))
    run_noise = own_noise if noise is None else noise
    centre, prior, curves, run_log_sd = _draw(estimator, x, y, ceiling, rng, run_noise)
    normal = rng.standard_normal(num_draws)
    structural = structural_log_sd(x, y, ceiling, rng)
    return Draws(centre, prior.log_error, curves, run_log_sd, run_noise, normal, structural, float(np.max(x)))


def _draw(
    estimator: Estimator, x: Array, y: Array, ceiling: float, rng: np.random.Generator, noise: Array
) -> tuple[Fit, Prior, Fit, Array]:
    """The fit and its prior, one refit for each row of `noise` [B, N], and the run spread drawn for each."""
    num_draws = len(noise)
    used = estimator.used(x)
    x_used, y_used = x[used], y[used]
    prior = Prior()
    for _ in range(2):
        centre, weighed = fit_form(estimator.form, x_used, y_used, prior=prior, ceiling=ceiling), prior
        log_sd, freedom = run_spread(centre, x_used, y_used, x, y, prior)
        prior = Prior(max(log_sd, 1e-4))
    drawn_sd = log_sd * np.sqrt(freedom / rng.chisquare(freedom, num_draws))
    shaken = np.exp(np.log(y_used) + drawn_sd[:, None] * noise[:, used])
    curves = fit_form(
        estimator.form, x_used, shaken, prior=Prior(prior.log_error, rng.standard_normal((num_draws, 2))),
        ceiling=ceiling, starts=centre.theta
    )  # fmt: skip
    return centre, weighed, curves, drawn_sd


def run_spread(fit: Fit, x: Array, y: Array, all_x: Array, all_y: Array, prior: Prior) -> tuple[float, float]:
    """Standard deviation of one run's log error, and its degrees of freedom.

    Pools the residuals of the window (less the parameters that the data determine) with the spread of repeated
    runs at the sizes outside it. Short of degrees of freedom, the missing ones come from `Prior().log_error`.
    """
    residual = np.log(y) - fit.log_predict(x)[0]
    square, freedom = float(residual @ residual), len(x) - _effective_params(fit, x, prior)
    for size in np.setdiff1d(all_x, x):
        repeats = np.log(all_y[all_x == size])
        square += float(np.sum((repeats - repeats.mean()) ** 2))
        freedom += len(repeats) - 1
    borrowed = max(0.0, MIN_DEGREES_OF_FREEDOM - freedom)
    total = freedom + borrowed
    return float(np.sqrt((square + borrowed * Prior().log_error ** 2) / total)), total


def curve_log_sd(fit: Fit, x: Array, at: float, run_log_sd: float) -> float:
    """Standard deviation of the log of the fitted curve at `at`, had it been fitted to runs at `x` [N]."""
    inverse = np.linalg.pinv(_normal_matrix(fit, _sensitivities(fit, x), run_log_sd))
    direction = _sensitivities(fit, np.array([at]))[0]
    return float(run_log_sd * np.sqrt(direction @ inverse @ direction))


def _effective_params(fit: Fit, x: Array, prior: Prior) -> float:
    """Trace of the hat matrix: how many parameters the data rather than the prior determine."""
    jacobian = _sensitivities(fit, x)
    inverse = np.linalg.pinv(_normal_matrix(fit, jacobian, prior.log_error))
    return float(np.trace(jacobian @ inverse @ jacobian.T))


def _sensitivities(fit: Fit, x: Array) -> Array:
    """[N, 1 + P] derivatives of the log curve by the log scale and the shape parameters."""
    u = np.log(x / fit.x_max)
    base = fit.form.log_shape(fit.theta, u)
    columns = [np.ones(len(x))]
    for parameter in range(fit.theta.shape[1]):
        moved = fit.theta.copy()
        moved[:, parameter] += 1e-6
        columns.append((fit.form.log_shape(moved, u) - base)[0] / 1e-6)
    return np.stack(columns, axis=1)


def _normal_matrix(fit: Fit, jacobian: Array, log_error: float) -> Array:
    """Information of the runs and of the prior, in units of one run."""
    normal = jacobian.T @ jacobian
    for name, _, deviation in Prior.CENTRES:
        position = fit.form.index(name)
        if position is not None:
            normal[position + 1, position + 1] += (log_error / deviation) ** 2
    return np.asarray(normal)


def structural_log_sd(x: Array, y: Array, ceiling: float, rng: np.random.Generator) -> float:
    """Root mean square of the base estimator's back-test errors per doubling, or 0 where runs alone explain them.

    Always the base's: the back-tests of an estimator that was chosen by its back-tests flatter it.
    """
    errors, variances = [], []
    for fold in folds(x):
        noise = rng.standard_normal((NUM_FOLD_DRAWS, int(fold.train.sum())))
        centre, _, curves, drawn_sd = _draw(BASE, x[fold.train], y[fold.train], ceiling, rng, noise)
        miss = np.mean(np.log(y[fold.test]) - centre.log_predict(x[fold.test])[0])
        spread = np.var(curves.log_predict(x[fold.test]).mean(axis=1)) + np.median(drawn_sd) ** 2 / fold.test.sum()
        errors.append(miss / fold.doublings)
        variances.append(spread / fold.doublings**2)
    if not errors or np.sum(np.square(errors) / variances) <= chdtri(len(errors), STRUCTURE_TEST_LEVEL):
        return 0.0
    return float(np.sqrt(np.mean(np.square(errors))))
