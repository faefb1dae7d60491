"""The law, its drift and the noise of a run, given the runs: a posterior on a grid of the two spreads.

At every node of the grid (drift per doubling, noise of a run) the law is fitted by least squares with the covariance
of that node, and weighed by its evidence (Laplace's approximation). Averaging over the nodes gives the heavy tails
that a spread known from few sizes must have.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from analysis.laws.curve_prior import CurvePrior, drift_covariance
from analysis.laws.forms import M2, Array

MAX_BINS = 96
"""More sizes than this are averaged with their neighbours."""
_MAX_ITERATIONS = 40
_LARGEST_STEP = 1.5
_ENOUGH = 1e-6


@dataclass(frozen=True, slots=True)
class SizeMeans:
    """The runs of a curve, averaged at each size (or over neighbouring sizes where there are very many)."""

    u: Array
    """[S] log(x / x_max), ascending."""
    log_y: Array
    """[S] mean log error."""
    count: Array
    """[S] runs averaged."""
    owner: Array
    """[N] the row of each run."""
    within_square: float
    """Sum of squared deviations from the means, of which ..."""
    within_freedom: int
    """... this many are free."""


@dataclass(frozen=True, slots=True)
class Posterior:
    """Nodes [K] of the grid; theta is (log error at x_max, log exponent, logit of the floor's share)."""

    means: SizeMeans
    drift: Array
    run: Array
    weight: Array
    theta: Array
    """[K, 3]"""
    shape_covariance: Array
    """[K, 2, 2] of (log exponent, floor's logit)."""
    log_likelihood: Array
    """[K] log evidence of the node, without the prior of its spreads."""
    gain: Array
    """[K, 3, S] what theta moves by when the mean of a size moves."""
    prior_gain: Array
    """[K, 3, 2] what theta moves by when the prior's centres move by a standard deviation."""


def size_means(x: Array, log_y: Array, used: Array) -> SizeMeans:
    """Means of the used runs; runs of one size outside the window still tell the noise of a run."""
    u = np.log(x[used] / x.max())
    sizes, owner = np.unique(u, return_inverse=True)
    flat = log_y[used]
    if len(sizes) > MAX_BINS:
        edges = np.linspace(sizes[0], 0.0, MAX_BINS + 1)[1:-1]
        owner = np.unique(np.searchsorted(edges, u), return_inverse=True)[1]
        flat = flat - np.polyval(np.polyfit(u, flat, 3), u)
    count = np.bincount(owner).astype(float)
    middle = np.bincount(owner, flat) / count
    square, freedom = float(np.sum((flat - middle[owner]) ** 2)), len(owner) - len(count)
    for size in np.unique(x[~used]):
        repeats = log_y[~used & (x == size)]
        square, freedom = square + float(np.sum((repeats - repeats.mean()) ** 2)), freedom + len(repeats) - 1
    return SizeMeans(
        np.bincount(owner, u) / count, np.bincount(owner, log_y[used]) / count, count, owner, square, freedom
    )


def posterior(means: SizeMeans, prior: CurvePrior | None = None) -> Posterior:
    """The law M2 at every node of the grid of spreads."""
    prior = prior or CurvePrior.alone()
    drift, run = prior.drift, prior.run
    covariance = (
        drift[:, None, None] ** 2 * drift_covariance(-means.u / np.log(2))
        + run[:, None, None] ** 2 * np.diag(1.0 / means.count)
    )  # fmt: skip
    factor = np.linalg.cholesky(covariance)
    whiten = np.linalg.inv(factor)
    # [2, 3]: rows of (theta - centre) in standard deviations of the prior; the level has none.
    scale = np.concatenate([np.zeros((2, 1)), np.linalg.inv(np.linalg.cholesky(prior.shape_covariance))], axis=1)
    centre = np.array([0.0, *prior.shape_centre])
    theta, cost, jacobian = _fit(means, whiten, centre, scale)
    normal = np.einsum("ksp,ksq->kpq", jacobian, jacobian) + scale.T @ scale
    log_likelihood = (
        -0.5 * cost
        - np.log(np.diagonal(factor, axis1=1, axis2=2)).sum(axis=1)
        - 0.5 * np.linalg.slogdet(normal)[1]
        - means.within_freedom * np.log(run)
        - 0.5 * means.within_square / run**2
    )
    log_evidence = prior.log_weight + log_likelihood
    weight = np.exp(log_evidence - log_evidence.max())
    inverse = np.linalg.inv(normal)
    gain = np.einsum("kpq,ksq,kst->kpt", inverse, jacobian, whiten)
    return Posterior(
        means, drift, run, weight / weight.sum(), theta, inverse[:, 1:, 1:], log_likelihood, gain, inverse @ scale.T
    )  # fmt: skip


def _fit(means: SizeMeans, whiten: Array, centre: Array, scale: Array) -> tuple[Array, Array, Array]:
    """Levenberg-Marquardt at all nodes: theta [K, 3], cost [K] and whitened derivatives [K, S, 3]."""
    lower, upper = np.array([-np.inf, *M2.lower]), np.array([np.inf, *M2.upper])
    theta = np.tile([means.log_y[-1], *centre[1:]], (len(whiten), 1))
    damping = np.full(len(whiten), 1e-2)
    off, cost, jacobian = _residuals(means, whiten, theta, centre, scale)
    for _ in range(_MAX_ITERATIONS):
        gradient = np.einsum("ksp,ks->kp", jacobian, off) - (theta - centre) @ (scale.T @ scale)
        normal = np.einsum("ksp,ksq->kpq", jacobian, jacobian) + scale.T @ scale
        damped = normal * (1.0 + damping[:, None, None] * np.eye(3))
        step = np.clip(np.linalg.solve(damped, gradient[..., None])[..., 0], -_LARGEST_STEP, _LARGEST_STEP)
        trial = np.clip(theta + step, lower, upper)
        tried_off, tried_cost, tried_jacobian = _residuals(means, whiten, trial, centre, scale)
        better = tried_cost <= cost
        gained = np.where(better, cost - tried_cost, 0.0).max()
        theta[better], off[better], jacobian[better] = trial[better], tried_off[better], tried_jacobian[better]
        cost = np.where(better, tried_cost, cost)
        damping = np.where(better, damping * 0.3, damping * 6.0)
        if better.all() and gained < _ENOUGH:
            break
    return theta, cost, jacobian


def _residuals(
    means: SizeMeans, whiten: Array, theta: Array, centre: Array, scale: Array
) -> tuple[Array, Array, Array]:
    """Whitened residuals [K, S], their sum of squares with the prior's [K], and derivatives of the law [K, S, 3]."""
    exponent, floor = np.exp(theta[:, 1:2]), theta[:, 2:3]
    shape = np.logaddexp(floor, -exponent * means.u)
    reducible = np.exp(-exponent * means.u - shape)
    curve = theta[:, :1] + shape - np.logaddexp(0.0, floor)
    off = np.einsum("kst,kt->ks", whiten, means.log_y - curve)
    slopes = [np.ones_like(curve), -reducible * exponent * means.u, 1.0 - reducible - expit(floor)]
    jacobian = np.einsum("kst,ktp->ksp", whiten, np.stack(slopes, axis=-1))
    cost = np.sum(off**2, axis=1) + np.sum(((theta - centre) @ scale.T) ** 2, axis=1)
    return off, cost, jacobian
