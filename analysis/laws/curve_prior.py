"""What is believed of a curve before its own runs: its shape, how far it strays from its law, and the noise of a run.

No form is exactly right, and how wrong it is cannot be read off a few back-tests. So the log error is the law plus a
drift that grows with every doubling away from the data, zero at the largest size and independent on both sides of it:
mostly a random walk in doublings, partly a random walk of the slope. What lies far back then counts less, what lies
ahead is less certain, errors are alike along x, and the spread is never zero: it has a prior, learned from public
learning curves, that the data move.
"""

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from analysis.laws.fitting import Prior
from analysis.laws.forms import Array


@dataclass(frozen=True, slots=True)
class SpreadPrior:
    """Log-normal priors of the drift per doubling and of one run's noise, both standard deviations in log error.

    The drift's centre lies midway between n-shot ImageNet (0.006) and Caltech101 (0.05) error of ViT, BiT and
    MLP-Mixer (arXiv 2209.06640). Two data sets say little about a third, so the width is that of the distance
    between them. The noise is that of `Prior.log_error`: points of published curves are averages, runs are not.
    """

    drift: float = 0.018
    run: float = 0.015
    log_width: float = 1.2

    NUM_STEPS: ClassVar = 9
    REACH: ClassVar = 2.5
    """The grid ends at so many log_width from the centre."""

    def grid(self) -> tuple[Array, Array, Array]:
        """Drift [K], run noise [K] and log prior weight [K] at the nodes of the grid."""
        steps = np.linspace(-self.REACH, self.REACH, self.NUM_STEPS)
        first, second = (axis.ravel() for axis in np.meshgrid(steps, steps, indexing="ij"))
        drift, run = self.drift * np.exp(self.log_width * first), self.run * np.exp(self.log_width * second)
        return drift, run, -0.5 * (first**2 + second**2)


@dataclass(frozen=True, slots=True)
class CurvePrior:
    """Normal in the shape; free on the grid of spreads."""

    shape_centre: Array
    """[2] log exponent, logit of the floor's share."""
    shape_covariance: Array
    """[2, 2]"""
    drift: Array
    """[K] drift per doubling at the nodes of the grid."""
    run: Array
    """[K] noise of a run at the nodes."""
    log_weight: Array
    """[K]"""

    @classmethod
    def alone(cls, spread: SpreadPrior | None = None) -> Self:
        """The shipped prior, for a curve of which nothing else is known."""
        centre = np.array([mean for _, mean, _ in Prior.CENTRES])
        covariance = np.diag([deviation**2 for _, _, deviation in Prior.CENTRES])
        return cls(centre, covariance, *(spread or SpreadPrior()).grid())


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
