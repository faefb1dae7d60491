"""Trials of a search as values: where they lie, what they depend on, and how a search goes on beyond an edge."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kstest

from scaling.plan.search.space import as_lists, extended, grid_values, random_values, rounded
from scaling.records.scores.search_plan import Space

CELL = {"model": "mixer-b/32", "fraction": 0.1}
SPACE: Space = {
    "learning_rate": {"log_uniform": [1e-4, 1e-2]},
    "clip": {"uniform": [0.5, 2.5]},
    "randaugment_layers": {"integer": [0, 3]},
    "weight_decay": {"choice": [0.03, 0.1]},
}


def column(values: list[dict[str, Any]], name: str) -> list[Any]:
    return [one[name] for one in values]


def test_draws_lie_in_their_space_and_are_spread_as_it_says() -> None:
    drawn = random_values(SPACE, 2000, 0, CELL)
    exponents = np.log10(column(drawn, "learning_rate"))
    assert kstest(exponents, "uniform", (-4, 2)).pvalue > 1e-3
    assert kstest(column(drawn, "clip"), "uniform", (0.5, 2)).pvalue > 1e-3
    counts = np.bincount(column(drawn, "randaugment_layers"))
    assert len(counts) == 4 and counts.min() > 400
    assert {0.03, 0.1} == set(column(drawn, "weight_decay"))
    # Settings are drawn apart: knowing one tells nothing of another.
    assert abs(np.corrcoef(exponents, column(drawn, "clip"))[0, 1]) < 0.1


def test_more_trials_keep_the_earlier_ones_and_every_input_counts() -> None:
    first = random_values(SPACE, 5, 0, CELL)
    assert random_values(SPACE, 50, 0, CELL)[:5] == first
    others = [
        random_values(SPACE, 5, 1, CELL),
        random_values(SPACE, 5, 0, {**CELL, "fraction": 0.3}),
        random_values(SPACE, 5, 0, CELL, key=1),
    ]
    assert all(other != first for other in others)
    # A setting has random numbers of its own: what else is searched does not change them.
    alone = random_values({"learning_rate": SPACE["learning_rate"]}, 5, 0, CELL)
    assert column(alone, "learning_rate") == column(first, "learning_rate")


@given(
    low=st.floats(1e-9, 1e3), ratio=st.floats(1.001, 1e9), kind=st.sampled_from(["log_uniform", "uniform"]),
    seed=st.integers(0, 2**62),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_rounding_never_leaves_the_range(low: float, ratio: float, kind: str, seed: int) -> None:
    space: Space = {"learning_rate": {kind: [low, low * ratio]}}
    drawn = column(random_values(space, 8, seed, CELL), "learning_rate")
    assert all(low <= value <= low * ratio for value in drawn)
    assert all(value in (low, low * ratio, rounded(value)) for value in drawn)


def test_a_small_space_gives_each_of_its_values_once() -> None:
    drawn = random_values({"weight_decay": {"choice": [1, 2, 3]}}, 10, 0, CELL)
    assert sorted(column(drawn, "weight_decay")) == [1, 2, 3]
    assert random_values({"weight_decay": {"choice": [1, 2, 3]}}, 10, 0, CELL, taken=drawn) == []


def test_a_grid_is_every_combination_with_both_ends() -> None:
    lists = as_lists({"learning_rate": {"log_uniform": [1e-4, 1e-2], "points": 5}, "weight_decay": {"choice": [0, 1]}})
    assert lists["learning_rate"] == {"choice": [1e-4, 3.16e-4, 1e-3, 3.16e-3, 1e-2]}
    values = grid_values(lists)
    assert len(values) == 10 and values[:2] == [
        {"learning_rate": 1e-4, "weight_decay": 0},
        {"learning_rate": 1e-4, "weight_decay": 1},
    ]
    assert grid_values(lists, taken=values[:9]) == values[9:]
    assert as_lists({"seed": {"integer": [1, 3], "points": 9}})["seed"] == {"choice": [1, 2, 3]}


def test_a_range_goes_on_from_its_best_value_past_its_end() -> None:
    best = {"learning_rate": 9e-3, "clip": 1.0, "randaugment_layers": 0, "weight_decay": 0.1}
    whole, parts = extended(SPACE, SPACE, best, {"learning_rate": "high", "randaugment_layers": "low"})
    assert whole["learning_rate"] == {"log_uniform": [1e-4, 0.1]}
    assert whole["randaugment_layers"] == {"integer": [-2, 3]}
    assert whole["clip"] == SPACE["clip"]
    assert parts[0] == {**whole, "learning_rate": {"log_uniform": [9e-3, 0.1]}}
    assert parts[1] == {**whole, "randaugment_layers": {"integer": [-2, 0]}}
    # Once more: by half of the first width again, not of what the range has become.
    again, _ = extended(whole, SPACE, {**best, "learning_rate": 0.1}, {"learning_rate": "high"})
    assert again["learning_rate"] == {"log_uniform": [1e-4, 1.0]}


@pytest.mark.parametrize(
    ("values", "side", "further"),
    [
        ([0.03, 0.1], "high", 0.333),
        ([0.1, 0.03], "low", 0.009),
        ([1e-3, 3e-3, 1e-2], "high", 3.33e-2),
        ([0.0, 0.1], "high", 0.2),
        ([1, 2, 3], "high", 4),
        ([1, 2, 3], "low", 0),
        ([8, "auto", 16], "high", 24),
    ],
)
def test_a_list_goes_on_by_its_last_ratio_or_difference(values: list[Any], side: Any, further: float) -> None:
    best = (max if side == "high" else min)(value for value in values if not isinstance(value, str))
    whole, (part,) = extended({"x": {"choice": values}}, {"x": {"choice": values}}, {"x": best}, {"x": side})
    assert part == {"x": {"choice": [further]}} and whole["x"]["choice"] == [*values, further]
    assert math.isfinite(further)
