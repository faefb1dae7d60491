"""What is believed of a curve before its own runs: its shape, its drift and the noise of a run."""

from dataclasses import dataclass
from typing import Self

import numpy as np

from analysis.laws.drift import SpreadPrior
from analysis.laws.fitting import Prior
from analysis.laws.forms import Array


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
