"""Levenberg-Marquardt for many small problems at once: starts, bootstrap draws and folds in one batch.

scipy solves one problem at a time; a law with an interval needs thousands, each of a few parameters. Each problem
keeps its own damping; steps are clipped to the box of the form.
"""

from collections.abc import Callable

import numpy as np

from analysis.laws.forms import Array

_STEP = 1e-6


def minimise(
    residuals: Callable[[Array, Array], Array],
    theta: Array,
    lower: Array,
    upper: Array,
    relative_gain: float,
    max_iterations: int,
) -> tuple[Array, Array]:
    """Minimise the sum of squares of each problem of a batch.

    `residuals(theta[b, P], rows[b]) -> [b, N]` evaluates problems `rows` of the batch. A problem ends when a step gains
    less than `relative_gain` of its sum of squares, or after `max_iterations`. Returns theta [B, P] and the sums [B].
    """
    theta = np.clip(theta, lower, upper)
    num_problems, num_params = theta.shape
    damping = np.full(num_problems, 1e-2)
    active = np.arange(num_problems)
    current = residuals(theta, active)
    cost = np.einsum("bn,bn->b", current, current)
    for _ in range(max_iterations):
        if not len(active):
            break
        at, base = theta[active], current[active]
        jacobian = _jacobian(residuals, at, base, active, upper)
        gradient = np.einsum("bnp,bn->bp", jacobian, base)
        normal = np.einsum("bnp,bnq->bpq", jacobian, jacobian)
        diagonal = np.einsum("bpp->bp", normal)
        ridge = damping[active, None] * np.maximum(diagonal, 1e-12 + 1e-8 * diagonal.max(axis=1, keepdims=True))
        normal[:, np.arange(num_params), np.arange(num_params)] += ridge
        step = np.linalg.solve(normal, gradient[..., None])[..., 0]
        trial = np.clip(at - step, lower, upper)
        tried = residuals(trial, active)
        tried_cost = np.einsum("bn,bn->b", tried, tried)
        better = tried_cost < cost[active]
        gain = cost[active] - tried_cost
        converged = (better & (gain <= relative_gain * cost[active])) | (~better & (damping[active] > 1e8))
        moved = active[better]
        theta[moved], current[moved], cost[moved] = trial[better], tried[better], tried_cost[better]
        damping[active] = np.where(better, np.maximum(damping[active] * 0.2, 1e-10), damping[active] * 5.0)
        active = active[~converged]
    return theta, cost


def _jacobian(residuals: Callable[[Array, Array], Array], at: Array, base: Array, rows: Array, upper: Array) -> Array:
    """[b, N, P] by one-sided differences, stepping inwards at the upper bound."""
    columns = []
    for parameter in range(at.shape[1]):
        step = np.where(at[:, parameter] + _STEP > upper[parameter], -_STEP, _STEP)
        moved = at.copy()
        moved[:, parameter] += step
        columns.append((residuals(moved, rows) - base) / step[:, None])
    return np.stack(columns, axis=-1)
