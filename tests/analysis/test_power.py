from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from analysis.laws.fitting import fit_form
from analysis.laws.forms import M1
from analysis.laws.study_laws import study_laws
from analysis.laws.uncertainty import curve_log_sd
from analysis.power import main as power_main
from analysis.power import paired_power, seeds_needed, seeds_table, sizes_table
from analysis.runs.load import load_records
from tests.support.synthetic_study import METRIC, make_study


def test_power_agrees_with_simulation_and_needs_more_seeds_for_less() -> None:
    rng = np.random.default_rng(0)
    samples = 0.9 + rng.standard_normal((20_000, 8))
    rejected = stats.ttest_1samp(samples, 0, axis=1).pvalue < 0.10
    assert paired_power(0.9, 8) == pytest.approx(rejected.mean(), abs=0.01)
    assert paired_power(0.0, 8) == pytest.approx(0.10, abs=1e-6)
    assert seeds_needed(0.5) > seeds_needed(1.0) > seeds_needed(3.0) >= 2


def test_power_is_never_lower_for_a_larger_effect_and_is_known_of_any() -> None:
    """A noncentral t that is not a number counted as a test that finds nothing: 5 seeds for an effect of 30."""
    effects = [0.0, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 50.0, 100.0, 1e3, 1e6, np.inf]
    for pairs in (2, 3, 8, 50):
        powers = [paired_power(effect, pairs) for effect in effects]
        assert (np.diff(powers) > -1e-9).all() and powers[-1] == pytest.approx(1.0)
        known = stats.t.ppf(0.95, pairs - 1)
        for effect, power in list(zip(effects, powers, strict=True))[:3]:
            shift = effect * pairs**0.5
            exact = stats.nct.sf(known, pairs - 1, shift) + stats.nct.cdf(-known, pairs - 1, shift)
            assert power == pytest.approx(exact, abs=1e-5)
    assert {seeds_needed(effect) for effect in effects[5:]} == {2}


def test_models_that_differ_by_the_same_in_every_run_need_two_seeds(tmp_path: Path) -> None:
    records = load_records([make_study(tmp_path, models=["mixer-b/32", "vit-b/32"], seeds=(0, 1), fractions=(1.0,))])
    records.runs[METRIC] = records.runs["family"].map({"mixer": 0.5, "vit": 0.25})
    (row,) = seeds_table(records, METRIC, [0.01]).itertuples(index=False)
    assert (row.paired_sd, row[-1]) == (0.0, 2)


def test_power_uses_the_measured_spread(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = make_study(tmp_path, models=["mixer-b/32", "vit-b/32"], seeds=range(12), noise=0.008)
    (row,) = seeds_table(load_records([study]), METRIC, [0.01]).itertuples(index=False)
    assert row.paired_sd == pytest.approx(0.008 * 2**0.5, rel=0.25)
    assert row[-1] == seeds_needed(0.01 / row.paired_sd)
    assert power_main([str(study), "--difference", "1"]) == 0
    assert "seeds for 1" in capsys.readouterr().out


@pytest.mark.parametrize("effect", [0.25, 0.3, 0.5])
def test_many_seeds_agree_with_the_normal_closed_form(effect: float) -> None:
    """n = ((z_0.95 + z_0.8) / effect)**2 + z_0.95**2 / 2 for a paired t test (Guenther 1981)."""
    z = stats.norm.ppf(0.95)
    expected = ((z + stats.norm.ppf(0.8)) / effect) ** 2 + z**2 / 2
    assert seeds_needed(effect) == pytest.approx(np.ceil(expected), abs=1)


def test_the_spread_of_a_fitted_line_is_that_of_regression() -> None:
    x = np.repeat([300.0, 1000.0, 3000.0, 10000.0], 3)
    fit = fit_form(M1, x, 0.5 * (x / 300) ** -0.2)
    u, at = np.log(x), np.log(20000.0)
    expected = 0.02 * np.sqrt(1 / len(u) + (at - u.mean()) ** 2 / np.sum((u - u.mean()) ** 2))
    assert curve_log_sd(fit, x, 20000.0, 0.02) == pytest.approx(expected, rel=1e-4)


def test_further_sizes_are_those_that_make_the_curves_difference_detectable(tmp_path: Path) -> None:
    records = load_records([make_study(tmp_path, models=["mixer-b/32", "vit-b/32"], noise=0.006)])
    laws, _ = study_laws(records, METRIC)
    (row,) = sizes_table(laws, [0.004, 0.01, 0.1]).itertuples(index=False)
    needed = list(row[4:])
    assert needed == sorted(needed, reverse=True)
    assert needed[-1] == 0
    detectable = stats.norm.ppf(0.95) + stats.norm.ppf(0.8)
    assert (needed[1] == 0) == (row.curve_sd * detectable <= 0.01)


@pytest.mark.parametrize("given", [["1", "1"], ["0.5", "1", "1.0000001"]])
def test_a_difference_that_is_given_twice_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], given: list[str]
) -> None:
    """Two columns of one name became one, or a traceback."""
    study = make_study(tmp_path, models=["mixer-b/32", "vit-b/32"], seeds=(0, 1), fractions=(1.0,))
    assert power_main([str(study), "--difference", *given]) == 2
    assert "--difference 1 stands twice" in capsys.readouterr().err
