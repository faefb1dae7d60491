"""How sure a fitted curve is: draws of the law, of its drift ahead of the data, and of one run's noise.

Draws follow the posterior of `analysis.laws.posterior`. What moves a drawn law away from the fitted one are noise of
the runs, drift of the curve and the prior's width, so that two models compared can share the noise of their seeds.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from analysis.laws.curve_prior import CurvePrior, drift_at, drift_covariance, drift_paths
from analysis.laws.estimator import Estimator
from analysis.laws.fitting import Fit, Prior
from analysis.laws.forms import M2, Array
from analysis.laws.posterior import Posterior, posterior, size_means

NUM_DRAWS = 400
MIN_DEGREES_OF_FREEDOM = 4.0
"""Below this many, the run-to-run spread leans on `Prior.log_error`."""
_NOISE_LEVELS = 25


@dataclass(frozen=True, slots=True)
class LawDraws:
    """Curves that the data allow, in rows."""

    centre: Fit
    """The posterior's mean law."""
    prior_log_error: float
    """Run spread of that law, against which the prior is weighed."""
    curves: Fit
    """[B] drawn laws."""
    run_log_sd: Array
    """[B] drawn standard deviation of the log error of one run."""
    run_noise: Array
    """[B, N] standardised noise of each run of the data, in their order."""
    drift_log_sd: Array
    """[B] drawn standard deviation of the drift at one doubling beyond the data."""
    drift: Array
    """[B, K] drawn drifts of unit size."""
    x_max: float
    """Largest x of the data."""

    @property
    def structural_log_sd(self) -> float:
        """Median drift, log error at one doubling beyond the data."""
        return float(np.median(self.drift_log_sd))

    def log_mean_curve(self, x: Array) -> Array:
        """[B, N] draws of the log of the mean curve."""
        beyond = np.log2(np.asarray(x, dtype=float) / self.x_max)
        return self.curves.log_predict(x) + self.drift_log_sd[:, None] * drift_at(self.drift, beyond)

    def log_new_run(self, x: Array) -> Array:
        """[B * K, N] draws of the log error of one further run at each x; each curve with K evenly likely noises."""
        levels = ndtri((np.arange(_NOISE_LEVELS) + 0.5) / _NOISE_LEVELS)
        noisy = self.log_mean_curve(x)[:, None] + self.run_log_sd[:, None, None] * levels[:, None]
        return noisy.reshape(-1, noisy.shape[-1])


def draw_curves(
    estimator: Estimator, x: Array, y: Array, *, ceiling: float, seed: int = 0, num_draws: int = NUM_DRAWS,
    noise: Array | None = None, prior: CurvePrior | None = None
) -> LawDraws:  # fmt: skip
    """Draw laws of the runs (x[N], y[N]); `noise` [B, N] replaces the normal numbers of the runs, so that two models
    compared can share them."""
    rng = np.random.default_rng(seed)
    own_noise = rng.standard_normal((num_draws, len(x)))
    run_noise = own_noise if noise is None else noise
    used = estimator.used(x)
    known = posterior(size_means(x, np.log(y), used), prior)
    node = _drawn_nodes(known.weight, num_draws, rng)
    theta = known.theta[node] + _shifts(known, node, run_noise[:, used], rng)
    x_max = float(np.max(x))
    centre = _law(np.einsum("k,kp->p", known.weight, known.theta)[None], x_max, ceiling)
    log_error = float(np.exp(np.sum(known.weight * np.log(known.run))))
    return LawDraws(
        centre, log_error, _law(theta, x_max, ceiling), known.run[node], run_noise, known.drift[node],
        drift_paths(num_draws, rng), x_max
    )  # fmt: skip


def _drawn_nodes(weight: Array, num_draws: int, rng: np.random.Generator) -> Array:
    """[B] nodes of the grid as often as their weight says, in random order: two models must not share an order."""
    levels = (np.arange(num_draws) + rng.uniform()) / num_draws
    node = np.minimum(np.searchsorted(np.cumsum(weight), levels), len(weight) - 1)
    return np.asarray(rng.permutation(node))


def _shifts(known: Posterior, node: Array, noise: Array, rng: np.random.Generator) -> Array:
    """[B, 3] distances of the drawn laws from their node's: the fit's linear answer to noise, drift and prior."""
    means = known.means
    mean_noise = np.zeros((len(node), len(means.count)))
    np.add.at(mean_noise.T, means.owner, noise.T)
    mean_noise /= means.count
    covariance = drift_covariance(-means.u / np.log(2)) + 1e-12 * np.eye(len(means.u))
    past = rng.standard_normal((len(node), len(means.u))) @ np.linalg.cholesky(covariance).T
    moved = known.run[node, None] * mean_noise + known.drift[node, None] * past
    prior = rng.standard_normal((len(node), 2))
    return np.asarray(
        np.einsum("bps,bs->bp", known.gain[node], moved) + np.einsum("bpq,bq->bp", known.prior_gain[node], prior)
    )


def _law(theta: Array, x_max: float, ceiling: float) -> Fit:
    """Rows (log error at x_max, log exponent, floor logit) as fits of M2."""
    shape = np.clip(theta[:, 1:], M2.lower, M2.upper)
    log_scale = theta[:, 0] - np.logaddexp(0.0, shape[:, 1])
    return Fit(M2, shape, log_scale, x_max, ceiling, np.zeros(len(theta)))


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
