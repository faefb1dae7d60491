"""Curves of one study resemble each other: what the others say of a curve, before its own runs.

Each shipped prior is cut into a part that the curves of a study share, their centre, and a part of each curve's own
(`OWN_SHARE` of the variance). The other curves of the study tell the centre; what is left is the prior of this one. A
curve is never part of its own prior, and without others the cut changes nothing.
"""

from collections.abc import Sequence

import numpy as np

from analysis.laws.curve_prior import CurvePrior, SpreadPrior
from analysis.laws.estimator import BASE
from analysis.laws.forms import Array
from analysis.laws.posterior import Posterior, posterior, size_means

OWN_SHARE = 0.25
"""Of a prior's variance, what is of each curve's own: within a study, spreads and shapes vary half as much (in standard
deviation) as between any two curves."""
_TINY = 1e-300


def study_priors(curves: Sequence[tuple[Array, Array]]) -> list[CurvePrior]:
    """The prior of each curve (x [N], y [N]) of a study, from all others."""
    spread = SpreadPrior()
    known = [_alone(curve, spread) for curve in curves]
    return [_informed(spread, [*known[:place], *known[place + 1 :]]) for place in range(len(known))]


def prior_from(others: Sequence[tuple[Array, Array]], spread: SpreadPrior) -> CurvePrior:
    """The prior of a further curve of the study that holds `others`."""
    return _informed(spread, [_alone(curve, spread) for curve in others])


def _alone(curve: tuple[Array, Array], spread: SpreadPrior) -> Posterior:
    x, y = curve
    return posterior(size_means(x, np.log(y), BASE.used(x)), CurvePrior.alone(spread))


def _informed(spread: SpreadPrior, others: Sequence[Posterior]) -> CurvePrior:
    alone = CurvePrior.alone(spread)
    if not others:
        return alone
    centre, covariance = _shape(alone, others)
    return CurvePrior(centre, covariance, alone.drift, alone.run, _log_weight(alone, spread, others))


def _shape(alone: CurvePrior, others: Sequence[Posterior]) -> tuple[Array, Array]:
    """Mean and covariance of the shape, by normal arithmetic."""
    own = OWN_SHARE * alone.shape_covariance
    precision = np.linalg.inv((1 - OWN_SHARE) * alone.shape_covariance)
    weighted = precision @ alone.shape_centre
    for other in others:
        mean, covariance = _shape_likelihood(other, alone)
        inverse = np.linalg.inv(own + covariance)
        precision, weighted = precision + inverse, weighted + inverse @ mean
    shared = np.linalg.inv(precision)
    return shared @ weighted, shared + own


def _shape_likelihood(known: Posterior, alone: CurvePrior) -> tuple[Array, Array]:
    """Mean and covariance of a normal likelihood of a curve's shape: its posterior, the prior divided out."""
    mean = known.weight @ known.theta[:, 1:]
    off = known.theta[:, 1:] - mean
    covariance = np.einsum("k,kpq->pq", known.weight, known.shape_covariance + off[:, :, None] * off[:, None])
    before = np.linalg.inv(alone.shape_covariance)
    values, vectors = np.linalg.eigh(np.linalg.inv(covariance) - before)
    # Where the runs say nothing, the difference is zero but for roundings and the mixture over nodes.
    precision = vectors @ np.diag(np.maximum(values, 1e-3)) @ vectors.T
    likelihood_mean = np.linalg.solve(precision, np.linalg.solve(covariance, mean) - before @ alone.shape_centre)
    return likelihood_mean, np.linalg.inv(precision)


def _log_weight(alone: CurvePrior, spread: SpreadPrior, others: Sequence[Posterior]) -> Array:
    """[K] log prior weight of the nodes of the grid of spreads."""
    nodes = np.log(np.stack([alone.drift, alone.run], axis=1)) / spread.log_width
    squares = ((nodes[:, None] - nodes[None]) ** 2).sum(axis=2)
    # Rows: where the study's centre is; columns: where a curve of that study is.
    given_centre = np.exp(-0.5 * squares / OWN_SHARE)
    given_centre /= given_centre.sum(axis=1, keepdims=True)
    log_centre = alone.log_weight / (1 - OWN_SHARE)
    for other in others:
        likelihood = np.exp(other.log_likelihood - other.log_likelihood.max())
        log_centre = log_centre + np.log(given_centre @ likelihood + _TINY)
    centre = np.exp(log_centre - log_centre.max())
    return np.asarray(np.log((centre / centre.sum()) @ given_centre + _TINY))
