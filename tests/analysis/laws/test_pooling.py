"""What the other curves of a study say of one: nothing without them, sharper intervals that still hold with them."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binom

from analysis.fit import main
from analysis.laws.curve_prior import CurvePrior, SpreadPrior, drift_covariance
from analysis.laws.fitting import Prior
from analysis.laws.forms import M2
from analysis.laws.law import fit_law
from analysis.laws.pooling import OWN_SHARE, prior_from, study_priors

SIZES = 1000 * 2.0 ** np.arange(5)
TARGET = 2 * SIZES[-1]

Curve = tuple[np.ndarray, np.ndarray]


def drawn_study(rng: np.random.Generator, num_curves: int) -> list[tuple[Curve, float]]:
    """Curves (sizes, errors) with a new run at twice the data each, drawn level by level from the prior."""
    spread = SpreadPrior()
    widths = np.array([*(deviation for _, _, deviation in Prior.CENTRES), spread.log_width, spread.log_width])
    means = np.array([*(mean for _, mean, _ in Prior.CENTRES), np.log(spread.drift), np.log(spread.run)])
    centre = means + np.sqrt(1 - OWN_SHARE) * widths * rng.standard_normal(4)
    past = drift_covariance(np.log2(SIZES[-1] / SIZES[:-1]))
    every = np.append(SIZES, TARGET)
    study = []
    for _ in range(num_curves):
        log_exponent, floor, log_drift, log_run = centre + np.sqrt(OWN_SHARE) * widths * rng.standard_normal(4)
        shape = M2.log_shape(np.array([[log_exponent, floor]]), np.log(every / SIZES[-1]))[0]
        drift = np.exp(log_drift) * np.concatenate(
            [rng.multivariate_normal(np.zeros(4), past), [0.0], [rng.standard_normal()]]
        )
        log_y = -3.0 + shape + drift + np.exp(log_run) * rng.standard_normal(6)
        study.append(((SIZES, np.exp(log_y[:-1])), float(np.exp(log_y[-1]))))
    return study


def test_without_other_curves_the_prior_is_the_shipped_one() -> None:
    (curve, _), *_ = drawn_study(np.random.default_rng(0), 1)
    (prior,) = study_priors([curve])
    alone = CurvePrior.alone()
    for name in ("shape_centre", "shape_covariance", "drift", "run", "log_weight"):
        assert np.array_equal(getattr(prior, name), getattr(alone, name))
    assert fit_law(*curve, prior=prior).predict(SIZES).equals(fit_law(*curve).predict(SIZES))


def test_a_curve_is_no_part_of_its_own_prior_and_the_order_of_others_does_not_matter() -> None:
    curves = [curve for curve, _ in drawn_study(np.random.default_rng(1), 4)]
    prior = study_priors(curves)[0]
    mixed = prior_from([curves[3], curves[1], curves[2]], SpreadPrior())
    other = study_priors([(SIZES, 0.5 * SIZES**-0.1), *curves[1:]])[0]
    for found in (mixed, other):
        assert prior.shape_centre == pytest.approx(found.shape_centre, rel=1e-9)
        assert prior.shape_covariance == pytest.approx(found.shape_covariance, rel=1e-9)
        assert prior.log_weight == pytest.approx(found.log_weight, abs=1e-9)


def test_pooled_intervals_hold_at_90_percent_and_are_narrower_on_curves_of_one_study() -> None:
    """Studies of six curves drawn from the prior of studies itself; one curve of each is scored, at a fresh seed."""
    entropy = np.random.SeedSequence().entropy
    rng = np.random.default_rng(entropy)
    hits, ratios = 0, []
    num_studies = 150
    for seed in range(num_studies):
        (curve, new_run), *others = drawn_study(rng, 6)
        prior = prior_from([other for other, _ in others], SpreadPrior())
        pooled, alone = (
            fit_law(*curve, seed=seed, prior=given).predict(np.array([TARGET])).iloc[0] for given in (prior, None)
        )
        hits += bool(pooled["run_low"] <= new_run <= pooled["run_high"])
        ratios.append(np.log(pooled["run_high"] / pooled["run_low"]) / np.log(alone["run_high"] / alone["run_low"]))
    low, high = binom.ppf([1e-4, 1 - 1e-4], num_studies, 0.9)
    assert low <= hits <= high, (hits, entropy)
    assert np.median(ratios) < 0.9, entropy


def test_a_curve_whose_runs_are_clear_is_not_pulled_to_the_others() -> None:
    """Fifty exact points of a steep curve among flat ones keep their exponent."""
    sizes = np.geomspace(1e3, 1e6, 50)
    steep, flat = (0.5 * (sizes / sizes[0]) ** -exponent for exponent in (0.6, 0.1))
    prior = prior_from([(sizes, flat * factor) for factor in (0.9, 1.0, 1.1)], SpreadPrior())
    assert prior.shape_centre[0] < CurvePrior.alone().shape_centre[0] - 0.3
    at = np.array([2e6])
    assert fit_law(sizes, steep, prior=prior).predict(at)["error"][0] == pytest.approx(
        0.5 * (2e6 / 1e3) ** -0.6, rel=0.01
    )


def test_the_command_pools_curves_of_one_study_only(tmp_path: Path) -> None:
    """Two tasks: what is in one does not move the other; `--alone` equals a table of one curve."""
    rng = np.random.default_rng(2)
    studies = {"a": drawn_study(rng, 3), "b": drawn_study(rng, 3)}

    def predicted(tasks: str, models: range, *options: str) -> list[dict[str, float]]:
        lines = ["n,error,task,model"]
        for task in tasks:
            for model in models:
                x, y = studies[task][model][0]
                lines += [f"{n},{error},{task},m{model}" for n, error in zip(x, y, strict=True)]
        (tmp_path / "table.csv").write_text("\n".join(lines) + "\n")
        fits = tmp_path / "fits.json"
        arguments = ["--x", "n", "--y", "error", "--by", "task", "model", "--json", str(fits), *options]
        assert main([str(tmp_path / "table.csv"), *arguments]) == 0
        (first,) = [
            found for found in json.loads(fits.read_text())["curves"] if found["curve"] == {"task": "a", "model": "m0"}
        ]
        return first["predictions"]

    assert predicted("ab", range(3)) == predicted("a", range(3))
    assert predicted("a", range(3), "--alone") == predicted("a", range(1))
    assert predicted("a", range(3)) != predicted("a", range(1))
