"""The interval of a measured coverage: right for independent rows, no narrower for more rows of the same units."""

import numpy as np
import pytest
from scipy.stats import binom, binomtest

from analysis.laws.coverage_error import Coverage, coverage_of, rows_per_unit, standard_error


def test_independent_rows_get_the_interval_of_clopper_and_pearson() -> None:
    covered, units = np.array([1.0] * 45 + [0.0] * 8), np.arange(53)
    found = coverage_of(covered, units, rows_per_unit([(covered, units)]))
    right = binomtest(45, 53).proportion_ci(0.90, method="exact")
    assert (found.share, found.low, found.high) == pytest.approx((45 / 53, right.low, right.high))


def test_repeated_curves_of_a_unit_tell_nothing_more() -> None:
    covered, units = np.array([0.8, 0.9, 1.0, 0.9]), np.array(list("abcd"))
    once, thrice = (
        coverage_of(cell[0], cell[1], rows_per_unit([cell]))
        for cell in ((np.tile(covered, n), np.tile(units, n)) for n in (1, 3))
    )
    assert (thrice.low, thrice.high) == pytest.approx((once.low, once.high))


def test_units_that_all_hold_count_as_those_elsewhere_and_once_each_without_any() -> None:
    """Six models without a miss: a rate below .05^(1/6) would have shown one in 19 of 20 cases."""
    units = np.repeat(np.arange(6), 3)
    alone = coverage_of(np.ones(18), units, rows_per_unit([(np.ones(18), units)]))
    assert (alone.low, alone.high, alone.verdict) == (pytest.approx(0.05 ** (1 / 6)), 1.0, "open")
    differing = np.tile([0.85, 0.9, 0.95], 6)
    assert rows_per_unit([(np.ones(18), units), (np.repeat(differing[:6], 3), units)]) > 1


def test_verdicts() -> None:
    assert [Coverage(0.9, *ends).verdict for ends in ((0.86, 0.94), (0.8, 0.94), (0.5, 0.8), (0.96, 1.0))] == [
        "yes", "open", "no", "no"
    ]  # fmt: skip


def test_the_interval_holds_where_rows_of_a_unit_miss_together() -> None:
    """Two cells of six units of three curves, each unit with a rate of its own (mean .9); a fresh seed each time. An
    interval that took rows for independent holds far less often."""
    entropy = np.random.SeedSequence().entropy
    rng = np.random.default_rng(entropy)
    units, hits, naive_hits, num_cases = np.repeat(np.arange(6), 3), 0, 0, 300
    for _ in range(num_cases):
        cells = [(rng.binomial(50, np.repeat(rng.beta(9.0, 1.0, 6), 3)) / 50, place * 6 + units) for place in range(2)]
        covered = cells[0][0]
        found = coverage_of(*cells[0], rows_per_unit(cells))
        hits += found.low <= 0.9 <= found.high
        naive = binomtest(round(float(np.sum(covered * 50))), 18 * 50).proportion_ci(0.90)
        naive_hits += naive.low <= 0.9 <= naive.high
    least = binom.ppf(1e-4, num_cases, 0.9)
    assert hits >= least, (hits, entropy)
    assert naive_hits < least, entropy


def test_the_standard_error_is_that_of_a_bootstrap_over_units() -> None:
    rng = np.random.default_rng()
    units = np.repeat(np.arange(12), 3)
    values = rng.standard_normal(12)[units] + 0.3 * rng.standard_normal(36)
    drawn = rng.integers(12, size=(20000, 12))
    means = values.reshape(12, 3).mean(axis=1)[drawn].mean(axis=1)
    assert standard_error(values, units) == pytest.approx(np.std(means) * np.sqrt(12 / 11), rel=0.04)
