"""How far a curve strays from its law: a random drift that grows with every doubling away from the data.

No form is exactly right, and how wrong it is cannot be read off a few back-tests. So the log error is the law plus a
drift, zero at the largest size and independent on both sides of it: mostly a random walk in doublings, partly a
random walk of the slope. What lies far back then counts less, what lies ahead is less certain, errors are alike
along x, and the spread is never zero: it has a prior (`analysis.laws.curve_prior`), learned from public learning
curves, that the data move.
"""

import numpy as np

from analysis.laws.forms import Array

_LEVEL_SHARE = 0.8
"""Share of the drift's variance at one doubling that is a random walk; the rest is a random walk of the slope."""
_KNOTS_PER_DOUBLING = 32
_LAST_DOUBLING = 8.0


def drift_covariance(doublings: Array) -> Array:
    """[N, N] covariance of a drift of unit variance at one doubling, at distances doublings [N] >= 0 on one side."""
    near, far = np.minimum.outer(doublings, doublings), np.maximum.outer(doublings, doublings)
    return np.asarray(_LEVEL_SHARE * near + (1 - _LEVEL_SHARE) * near**2 * (3 * far - near) / 2)


def drift_paths(num_draws: int, rng: np.random.Generator) -> Array:
    """[B, K] drifts ahead of the data, of unit variance at one doubling, at the knots that `drift_at` reads."""
    step = 1 / _KNOTS_PER_DOUBLING
    shape = (num_draws, round(_LAST_DOUBLING * _KNOTS_PER_DOUBLING))
    level = np.cumsum(rng.standard_normal(shape), axis=1) * np.sqrt(step)
    slope = np.cumsum(rng.standard_normal(shape), axis=1) * np.sqrt(step)
    bend = np.sqrt(3.0) * np.cumsum(slope, axis=1) * step
    ahead = np.sqrt(_LEVEL_SHARE) * level + np.sqrt(1 - _LEVEL_SHARE) * bend
    return np.concatenate([np.zeros((num_draws, 1)), ahead], axis=1)


def drift_at(paths: Array, doublings: Array) -> Array:
    """[B, N] the drifts at doublings [N] beyond the data; 0 inside, in proportion to the distance past the last one."""
    place = np.clip(doublings, 0.0, _LAST_DOUBLING) * _KNOTS_PER_DOUBLING
    left = np.minimum(place.astype(int), paths.shape[1] - 2)
    share = place - left
    found = (1 - share) * paths[:, left] + share * paths[:, left + 1]
    return np.asarray(found * np.maximum(doublings / _LAST_DOUBLING, 1.0))
