"""A law: the chosen estimator fitted to one curve, its parameters, its predictions and how far to trust them.

Every prediction says how many doublings it lies beyond the data, and gives two intervals: one for the mean curve and
one for a single new run. The window is stated, and the sensitivity of the prediction to it.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.laws.backtest import MIN_SIZES
from analysis.laws.curve_prior import CurvePrior
from analysis.laws.estimator import Choice, Estimator, choose
from analysis.laws.fitting import Fit, Prior, fit_form
from analysis.laws.forms import Array
from analysis.laws.uncertainty import LawDraws, draw_curves
from scaling.errors import UserError

LEVEL = 0.90
FAR_DOUBLINGS = 2.0
"""Predictions beyond this many doublings of the data are flagged: back-tests never reach so far."""
_SENSITIVITY_WINDOWS = (4.0, 8.0, 16.0, None)
_BOUND_MARGIN = 0.02


@dataclass(frozen=True, slots=True)
class Law:
    """Everything said about one curve. Errors are in the unit of the table, sizes in examples."""

    choice: Choice
    draws: LawDraws
    num_points: int
    num_sizes: int
    window: tuple[float, float]
    """Smallest and largest x used."""
    num_points_used: int
    x: Array
    y: Array

    @property
    def fit(self) -> Fit:
        """The curve itself, the prior weighed against the measured run spread: what the intervals lie around."""
        return self.draws.centre

    @property
    def parameters(self) -> dict[str, float]:
        """Scale, exponent and floor in the unit of the data, with the form's other shape parameters."""
        return describe(self.fit)

    @property
    def at_bounds(self) -> list[str]:
        """Names of parameters that ended at the edge of their range: not identified by these data."""
        form, theta = self.fit.form, self.fit.theta[0]
        margin = _BOUND_MARGIN * (form.upper - form.lower)
        outside = (theta < form.lower + margin) | (theta > form.upper - margin)
        return [parameter.name for parameter, out in zip(form.parameters, outside, strict=True) if out]

    def predict(self, x: Array, level: float = LEVEL) -> pd.DataFrame:
        """One row per x: error, interval of the mean curve, interval of one new run, doublings beyond the data."""
        x = np.atleast_1d(np.asarray(x, dtype=float))
        tails = [(1 - level) / 2, (1 + level) / 2]
        mean_low, mean_high = np.exp(_quantiles(self.draws.log_mean_curve(x), tails))
        run_low, run_high = np.exp(_quantiles(self.draws.log_new_run(x), tails))
        error = self.fit.predict(x)[0]
        # Finitely many draws must neither pass by the curve itself nor make a run look more certain than the mean.
        mean_low, mean_high = np.minimum(mean_low, error), np.maximum(mean_high, error)
        run_low, run_high = np.minimum(run_low, mean_low), np.maximum(run_high, mean_high)
        ceiling = self.fit.ceiling
        return pd.DataFrame(
            {
                "x": x,
                "error": error,
                "mean_low": np.minimum(mean_low, ceiling),
                "mean_high": np.minimum(mean_high, ceiling),
                "run_low": np.minimum(run_low, ceiling),
                "run_high": np.minimum(run_high, ceiling),
                "doublings_beyond": np.maximum(np.log2(x / self.draws.x_max), 0.0),
            }
        )

    def window_sensitivity(self, x: Array) -> dict[str, Array]:
        """The predicted errors [N] at `x` [N] when the chosen form is fitted to other windows, one of them without the
        smallest size in use, where three remain: with few sizes the others hold the same points."""
        found = {}
        prior = Prior(self.draws.prior_log_error)
        kept = self.choice.estimator.used(self.x) & (self.x > self.window[0])
        if len(np.unique(self.x[kept])) >= MIN_SIZES:
            form = self.choice.estimator.form
            shorter = fit_form(form, self.x[kept], self.y[kept], prior=prior, ceiling=self.fit.ceiling)
            found[f"{form.name}, x > {self.window[0]:g}"] = shorter.predict(x)[0]
        for window in _SENSITIVITY_WINDOWS:
            estimator = Estimator(self.choice.estimator.form, window)
            fit = estimator.fit(self.x, self.y, self.fit.ceiling, prior)
            found[estimator.name] = fit.predict(x)[0]
        return found


def fit_law(x: Array, y: Array, *, noise: Array | None = None, seed: int = 0, prior: CurvePrior | None = None) -> Law:
    """Fit one curve of runs: x[N] examples, y[N] error (or loss), in any order.

    `prior` replaces the shipped one, for example by what other curves of the study say (`study_priors`). UserError for
    fewer than two sizes, or values that are not positive and finite.
    """
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    check_curve(x, y)
    order = np.lexsort((y, x)) if noise is None else np.arange(len(x))
    x, y = x[order], y[order]
    limit = ceiling_of(y)
    choice = choose(x, y, limit)
    used = choice.estimator.used(x)
    return Law(
        choice=choice,
        draws=draw_curves(choice.estimator, x, y, ceiling=limit, seed=seed, noise=noise, prior=prior),
        num_points=len(x),
        num_sizes=len(np.unique(x)),
        window=(float(x[used].min()), float(x.max())),
        num_points_used=int(used.sum()),
        x=x,
        y=y,
    )


def check_curve(x: Array, y: Array) -> None:
    for name, values in (("x", x), ("error", y)):
        if not (np.isfinite(values) & (values > 0)).all():
            raise UserError(
                f"{name} {values[~(np.isfinite(values) & (values > 0))][0]:g}: laws need positive, finite numbers; "
                "leave out such rows, and give an error or loss (1 - accuracy) rather than an accuracy"
            )
    if len(np.unique(x)) < 2:
        raise UserError(f"a law needs at least 2 different sizes, this curve has {len(np.unique(x))}; add sizes")


def ceiling_of(y: Array) -> float:
    """1 for an error rate, no limit for a loss (some value above 1)."""
    return 1.0 if float(np.max(y)) <= 1.0 else float("inf")


def describe(fit: Fit) -> dict[str, float]:
    """Parameters of the first curve of `fit` in plain units: floor e, exponent c, and error at x_max."""
    theta = fit.theta[0]
    found: dict[str, float] = {"error_at_x_max": float(fit.predict(np.array([fit.x_max]))[0, 0])}
    for parameter, value in zip(fit.form.parameters, theta, strict=True):
        if parameter.name == "floor_logit":
            found["floor"] = float(np.exp(fit.log_scale[0] + value))
        elif parameter.name == "log_shift":
            found["shift"] = float(np.exp(value) * fit.x_max)
        elif parameter.name == "log_break":
            found["break"] = float(np.exp(value) * fit.x_max)
        elif parameter.name.startswith("log_"):
            found[parameter.name.removeprefix("log_")] = float(np.exp(value))
        else:
            found[parameter.name] = float(value)
    return found


def _quantiles(draws: Array, tails: list[float]) -> Array:
    return np.asarray(np.quantile(draws, tails, axis=0, method="median_unbiased"))
