"""The laws: error as a function of the number of examples, each with one scale that is found in closed form.

Every form is f(x) = exp(s + g(theta, u)) with u = log(x / x_max): the log scale s enters linearly, so for given shape
parameters theta its best value is a mean. All forms fall with x and stay positive and finite. Names M1 to M4
follow Alabdulmohsin, Neyshabur and Zhai (arXiv 2209.06640); the shifted power law is that of Scaling Vision
Transformers (arXiv 2106.04560, Section 2); the broken law is BNSL with one break (arXiv 2210.14891, Eq. 1).
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

_LOG_EXPONENT = (-5.0, 1.6)
_FLOOR_LOGIT = (-9.0, 9.0)
_NEWTON_STEPS = 6


@dataclass(frozen=True, slots=True)
class ShapeParameter:
    """One entry of theta: its bounds, and the values from which the search starts."""

    name: str
    lower: float
    upper: float
    starts: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Form:
    """A family of curves. `log_shape(theta[B, P], u[N]) -> [B, N]` is log f without the scale."""

    name: str
    formula: str
    parameters: tuple[ShapeParameter, ...]
    log_shape: Callable[[Array, Array], Array]

    @property
    def num_params(self) -> int:
        """Shape parameters and the scale."""
        return len(self.parameters) + 1

    @property
    def lower(self) -> Array:
        return np.array([parameter.lower for parameter in self.parameters])

    @property
    def upper(self) -> Array:
        return np.array([parameter.upper for parameter in self.parameters])

    def starts(self) -> Array:
        """[G, P]: every combination of the parameters' start values."""
        return np.array(list(itertools.product(*(parameter.starts for parameter in self.parameters))))

    def index(self, name: str) -> int | None:
        """Position of a parameter in theta, None when the form has no such parameter."""
        names = [parameter.name for parameter in self.parameters]
        return names.index(name) if name in names else None


def _power(theta: Array, u: Array) -> Array:
    return -theta[:, :1] * u


def _power_with_floor(theta: Array, u: Array) -> Array:
    exponent, floor = np.exp(theta[:, :1]), theta[:, 1:2]
    return np.logaddexp(floor, -exponent * u)


def _saturating(theta: Array, u: Array) -> Array:
    exponent, gamma = np.exp(theta[:, :1]), theta[:, 1:2]
    return exponent * np.logaddexp(-u, gamma)


def _logistic_to_power(theta: Array, u: Array) -> Array:
    exponent, floor, alpha, shift = np.exp(theta[:, :1]), theta[:, 1:2], np.exp(theta[:, 2:3]), theta[:, 3:4]
    return np.logaddexp(floor, -_softplus(-_solve_sigmoid(shift - exponent * u, alpha)))


def _shifted_power_with_floor(theta: Array, u: Array) -> Array:
    exponent, floor, shift = np.exp(theta[:, :1]), theta[:, 1:2], theta[:, 2:3]
    return np.logaddexp(floor, -exponent * (np.logaddexp(u, shift) - np.logaddexp(0.0, shift)))


def _broken_power_with_floor(theta: Array, u: Array) -> Array:
    before, floor, after = np.exp(theta[:, :1]), theta[:, 1:2], np.exp(theta[:, 2:3])
    place, width = theta[:, 3:4], np.exp(theta[:, 4:5])
    bend = width * (_softplus((u - place) / width) - _softplus(-place / width))
    return np.logaddexp(floor, -before * u - (after - before) * bend)


def _softplus(z: Array) -> Array:
    return np.logaddexp(0.0, z)


def _solve_sigmoid(target: Array, alpha: Array) -> Array:
    """z with log(sigmoid(z)) - alpha * log(1 - sigmoid(z)) = target, by Newton's method.

    The left side rises with a slope between 1 and alpha, so that the steps cannot overshoot for long.
    """
    z = np.where(target < 0, target, target / alpha)
    for _ in range(_NEWTON_STEPS):
        value = alpha * _softplus(z) - _softplus(-z) - target
        sigmoid = 1.0 / (1.0 + np.exp(-np.clip(z, -40.0, 40.0)))
        z = z - value / (1.0 - sigmoid + alpha * sigmoid)
    return z


_EXPONENT = ShapeParameter("log_exponent", *_LOG_EXPONENT, tuple(np.log([0.1, 0.2, 0.35, 0.6, 1.0])))
_FLOOR = ShapeParameter("floor_logit", *_FLOOR_LOGIT, (-4.0, -1.0, 0.5, 2.0))
"""Logit of the floor's share in the curve at x_max, when the rest of the shape is 1 there."""

M1 = Form("M1", "b x^-c", (ShapeParameter("exponent", 0.0, 5.0, (0.3,)),), _power)
M2 = Form("M2", "e + b x^-c", (_EXPONENT, _FLOOR), _power_with_floor)
M3 = Form(
    "M3",
    "b (1/x + g)^c",
    (_EXPONENT, ShapeParameter("log_gamma", -9.0, 9.0, (-4.0, -1.0, 0.5, 2.0))),
    _saturating,
)
M4 = Form(
    "M4",
    "(f - e) / (e0 - f)^a = b x^-c",
    (
        _EXPONENT,
        _FLOOR,
        ShapeParameter("log_alpha", -5.0, 3.0, tuple(np.log([0.2, 1.0, 3.0]))),
        ShapeParameter("log_odds_at_x_max", -12.0, 4.0, (-5.0, -2.0, 0.0)),
    ),
    _logistic_to_power,
)
SHIFTED = Form(
    "shifted",
    "e + b (x + d)^-c",
    (_EXPONENT, _FLOOR, ShapeParameter("log_shift", -12.0, 2.0, (-8.0, -5.0, -3.0, -1.0))),
    _shifted_power_with_floor,
)
BNSL = Form(
    "BNSL",
    "e + b x^-p (1 + (x/d)^(1/w))^(-(q-p) w)",
    (
        _EXPONENT,
        _FLOOR,
        ShapeParameter("log_exponent_after", *_LOG_EXPONENT, tuple(np.log([0.1, 0.3, 0.8]))),
        ShapeParameter("log_break", -12.0, 1.0, (-6.0, -4.0, -2.5, -1.0)),
        ShapeParameter("log_width", -4.0, 1.5, (-2.0, -0.5)),
    ),
    _broken_power_with_floor,
)

FORMS: Sequence[Form] = (M1, M2, M3, M4, SHIFTED, BNSL)
