"""Fit one form to error against examples by least squares on the log of the error.

Multi-start: all start values are evaluated, the best are polished, the best objective wins. The log scale is solved in
closed form inside. A weak prior can be added where a study has few sizes; it is stated in the units of a log error.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from analysis.laws.forms import Array, Form
from analysis.laws.least_squares import minimise

NUM_POLISHED = 6
MAX_ITERATIONS = 100
_RELATIVE_GAIN = 1e-7
_RELATIVE_GAIN_OF_DRAWS = 1e-4
"""Given starts mean that the answer is near and many are asked for."""


@dataclass(frozen=True, slots=True)
class Prior:
    """A weak prior on exponent and floor, for studies whose few sizes cannot tell the two apart.

    Exponents between 0.25 and 0.8, and a floor between an eighth and seven eighths of the error at the largest size,
    are each about 68 % likely.
    """

    log_error: float = 0.015
    """Standard deviation of a measured point, in log error, against which the prior is weighed."""
    shift: Array | None = None
    """[B, 2] standard normal numbers that move the prior's centre, to draw from the posterior (randomise, then
    optimise)."""

    CENTRES: ClassVar = (("log_exponent", math.log(0.45), 0.6), ("floor_logit", 0.0, 2.0))

    def residuals(self, form: Form, theta: Array, rows: Array) -> list[Array]:
        found = []
        for column, (name, mean, deviation) in enumerate(self.CENTRES):
            position = form.index(name)
            if position is not None:
                moved = 0.0 if self.shift is None else self.shift[rows, column, None]
                found.append(self.log_error * ((theta[:, position : position + 1] - mean) / deviation - moved))
        return found


@dataclass(frozen=True, slots=True)
class Fit:
    """A fitted curve; a batch of them when theta has several rows."""

    form: Form
    theta: Array
    """[B, P] shape parameters."""
    log_scale: Array
    """[B]"""
    x_max: float
    """Unit of x: the largest x fitted."""
    ceiling: float
    """Largest value the quantity can take: 1 for an error, infinity for a loss."""
    cost: Array
    """[B] weighted sum of squared log residuals, prior included."""

    def log_predict(self, x: Array) -> Array:
        """[B, N] log of the predicted error."""
        u = np.log(np.asarray(x, dtype=float) / self.x_max)
        return np.minimum(self.log_scale[:, None] + self.form.log_shape(self.theta, u), np.log(self.ceiling))

    def predict(self, x: Array) -> Array:
        """[B, N] predicted error, in (0, ceiling]."""
        return np.exp(self.log_predict(x))


def fit_form(
    form: Form,
    x: Array,
    y: Array,
    *,
    weights: Array | None = None,
    prior: Prior | None = None,
    ceiling: float = 1.0,
    starts: Array | None = None,
    max_iterations: int = MAX_ITERATIONS,
) -> Fit:
    """Fit `form` to x[N] > 0 and y > 0, where y is [N], or [B, N] for B problems that share x.

    `weights` [N] or [B, N] count repetitions of a point. `starts` [S, P] replaces the form's own start values.
    """
    log_y = np.log(np.atleast_2d(y))
    weight = np.ones_like(log_y) * (1.0 if weights is None else np.atleast_2d(weights))
    x_max = float(np.max(x))
    u = np.log(np.asarray(x, dtype=float) / x_max)
    root = np.sqrt(weight)
    share = weight / weight.sum(axis=1, keepdims=True)

    def residuals(theta: Array, rows: Array) -> Array:
        off = form.log_shape(theta, u) - log_y[rows]
        off = off - np.sum(share[rows] * off, axis=1, keepdims=True)
        extra = prior.residuals(form, theta, rows) if prior else []
        return np.concatenate([root[rows] * off, *extra], axis=1)

    grid = form.starts() if starts is None else starts
    num_problems = len(log_y)
    theta0, owner = _best_starts(residuals, grid, num_problems)
    gain = _RELATIVE_GAIN if starts is None else _RELATIVE_GAIN_OF_DRAWS
    theta, cost = minimise(
        lambda at, rows: residuals(at, owner[rows]), theta0, form.lower, form.upper, gain, max_iterations
    )
    best = np.array([np.flatnonzero(owner == row)[np.argmin(cost[owner == row])] for row in range(num_problems)])
    theta = theta[best]
    log_scale = np.sum(share * (log_y - form.log_shape(theta, u)), axis=1)
    return Fit(form, theta, log_scale, x_max, ceiling, cost[best])


def _best_starts(residuals, grid: Array, num_problems: int) -> tuple[Array, Array]:  # type: ignore[no-untyped-def]
    """The start points to polish [S, P] and the problem each belongs to [S]."""
    polished = min(NUM_POLISHED, len(grid))
    chosen, owner = [], []
    for row in range(num_problems):
        off = residuals(grid, np.full(len(grid), row))
        order = np.argsort(np.einsum("bn,bn->b", off, off), kind="stable")[:polished]
        chosen.append(grid[order])
        owner += [row] * polished
    return np.concatenate(chosen), np.array(owner)
