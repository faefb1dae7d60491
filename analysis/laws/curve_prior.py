"""What is believed of a curve before its own runs: its shape, its drift and the noise of a run."""

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
