"""The law of each model of a study: log error (1 - metric) against distinct training images, one point per run.

Models are resampled together: runs with the same size and seed share their random sign in the wild bootstrap, so that
what the seed and the subset draw do to both models cancels in the difference, as far as it does in the data. The prior
of each model's law comes from the other models of the study.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.laws.estimator import choose
from analysis.laws.fitting import Prior
from analysis.laws.forms import Array
from analysis.laws.law import Law, ceiling_of, fit_law
from analysis.laws.pooling import study_priors
from analysis.laws.uncertainty import NUM_DRAWS, run_spread
from analysis.runs.load import Records

MIN_SIZES = 3
MIN_FREEDOM_FOR_WILD = 4.0
"""Residual degrees of freedom below which a model's own residuals say too little, and independent normal noise is
drawn instead."""
_WEBB = np.sqrt([0.5, 1.0, 1.5])
"""Magnitudes of Webb's six-point weights: mean 0, variance 1, for bootstraps over few units."""


@dataclass(frozen=True, slots=True)
class ModelRuns:
    """The finished runs of one model: images, error and seed of each."""

    images: Array
    error: Array
    seed: Array


def model_runs(records: Records, metric: str) -> dict[str, ModelRuns]:
    """Runs of each model that measured `metric`, by model, sizes ascending. Errors are 1 - metric for accuracies."""
    runs = records.runs[records.runs[metric].notna()]
    found = {}
    for model, rows in runs.groupby("model", sort=False):
        value = rows[metric].to_numpy(float)
        error = records.metric(metric).errors(value)
        found[str(model)] = ModelRuns(rows["num_images"].to_numpy(float), error, rows["seed"].to_numpy(int))
    return found


def study_laws(records: Records, metric: str) -> tuple[dict[str, Law], pd.DataFrame]:
    """Laws by model, and a table (model, reason) of models that allow none."""
    fitted: dict[str, ModelRuns] = {}
    without = []
    reason = records.metric(metric).no_law_because
    if reason:
        models = records.runs.loc[records.runs[metric].notna(), "model"].unique()
        return {}, pd.DataFrame([(str(model), reason) for model in models], columns=["model", "reason"])
    everything = model_runs(records, metric)
    weights = _shared_weights(everything)
    for model, runs in everything.items():
        num_sizes = len(np.unique(runs.images))
        if num_sizes < MIN_SIZES:
            without.append((model, f"{num_sizes} sizes; a law needs {MIN_SIZES}"))
        elif not (runs.error > 0).all():
            without.append((model, "an error of 0 has no logarithm"))
        else:
            fitted[model] = runs
    priors = study_priors([(runs.images, runs.error) for runs in fitted.values()])
    laws = {
        model: fit_law(
            runs.images, runs.error, noise=_paired_noise(runs, weights), seed=_seed_of(model), prior=prior
        )
        for (model, runs), prior in zip(fitted.items(), priors, strict=True)
    }  # fmt: skip
    return laws, pd.DataFrame(without, columns=["model", "reason"])


def _shared_weights(everything: Mapping[str, ModelRuns]) -> dict[tuple[float, int], Array]:
    """[B] bootstrap weights of each (size, seed)."""
    units = sorted({unit for runs in everything.values() for unit in zip(runs.images, runs.seed, strict=True)})
    rng = np.random.default_rng(0)
    return {unit: rng.choice(np.concatenate([_WEBB, -_WEBB]), NUM_DRAWS) for unit in units}


def _paired_noise(runs: ModelRuns, weights: Mapping[tuple[float, int], Array]) -> Array | None:
    """[B, N] standardised wild-bootstrap noise, None where the residuals are too few to carry it or a seed repeats."""
    limit = ceiling_of(runs.error)
    estimator = choose(runs.images, runs.error, limit).estimator
    used = estimator.used(runs.images)
    fit = estimator.fit(runs.images, runs.error, limit)
    x, y = runs.images[used], runs.error[used]
    log_sd, freedom = run_spread(fit, x, y, runs.images, runs.error, Prior())
    units = list(zip(runs.images, runs.seed, strict=True))
    if freedom <= MIN_FREEDOM_FOR_WILD or len(set(units)) < len(units):
        return None
    residual = np.log(runs.error) - fit.log_predict(runs.images)[0]
    standard = residual / log_sd
    standard = standard * np.sqrt(1.0 / max(float(np.mean(standard[used] ** 2)), 1e-12))
    shared = np.stack([weights[unit] for unit in units], axis=1)
    return np.asarray(shared * standard)


def _seed_of(model: str) -> int:
    return sum(model.encode()) + 1
