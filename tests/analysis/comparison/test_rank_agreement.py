"""Kendall's tau-b beside scipy's, and what sizes and seeds do to it."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import kendalltau

from analysis.comparison.rank_agreement import rank_agreement, tau_b
from analysis.runs.load import Records, assemble
from analysis.runs.naming import parse_model_name

A, B = "unseen/5shot_top1", "flowers/top1"


def records(rows: list[tuple[str, int, int, float, float]]) -> Records:
    """Model, images, seed and both metrics of each run."""
    runs = pd.DataFrame(rows, columns=["model", "num_images", "seed", A, B])
    runs["run_id"] = [f"run{number}" for number in range(len(runs))]
    runs["study"], runs["family"], runs["fraction"] = "s", runs["model"].str.split("-").str[0], 1.0
    models = {str(name): parse_model_name(str(name)) for name in runs["model"].unique()}
    return assemble(runs, pd.DataFrame(), models, {}, {})


@pytest.mark.parametrize("levels", [3, 1000])
def test_tau_is_that_of_scipy(levels: int) -> None:
    """Also with many ties."""
    draw = np.random.default_rng(levels)
    for _ in range(50):
        a, b = (draw.integers(levels, size=9).astype(float) for _ in range(2))
        assert tau_b(a, b) == pytest.approx(kendalltau(a, b).statistic, abs=1e-12, nan_ok=True)
    assert np.isnan(tau_b(np.ones(4), np.arange(4.0)))


def test_more_data_does_not_count_as_agreement() -> None:
    """Every evaluation rises with size; at each size the two order the models in opposite ways."""
    rows = []
    for size in (100, 1000):
        for place, model in enumerate(("mixer-b/32", "vit-b/32", "bit-r50x1")):
            rows += [(model, size, seed, size / 2000 + 0.01 * place, size / 2000 - 0.01 * place) for seed in (0, 1)]
    table = rank_agreement(records(rows), A, [B])
    assert table["tau"].tolist() == [-1.0, -1.0, -1.0]
    assert table["discordant"].tolist() == [3, 3, 6]
    everything = records(rows).runs.groupby(["model", "num_images"])[[A, B]].mean()
    assert kendalltau(everything[A], everything[B]).statistic > 0


def test_the_pooled_tau_adds_up_pairs_of_each_size() -> None:
    rows = [("mixer-b/32", 10, 0, 0.1, 0.1), ("vit-b/32", 10, 0, 0.2, 0.3), ("bit-r50x1", 10, 0, 0.3, 0.2)]
    rows += [("mixer-b/32", 20, 0, 0.3, 0.3), ("vit-b/32", 20, 0, 0.4, 0.4), ("bit-r50x1", 30, 0, 0.5, 0.5)]
    table = rank_agreement(records(rows), A, [B])
    assert table["num_images"].tolist()[:2] == [10, 20] and np.isnan(table["num_images"].iloc[2])
    assert table["tau"].tolist() == [pytest.approx(1 / 3), 1.0, pytest.approx(2 / 4)]
    # One run of a model has no spread, and none is made up.
    assert table[["low", "high"]].isna().all().all()


def test_the_interval_is_that_of_a_bootstrap_over_runs() -> None:
    """Against one written out with scipy, run by run."""
    draw = np.random.default_rng(0)
    names = ["mixer-b/32", "vit-b/32", "bit-r50x1", "mixer-l/16", "vit-l/16"]
    rows = [
        (name, 100, seed, *(0.3 + 0.02 * place + 0.03 * draw.normal(size=2)))
        for place, name in enumerate(names)
        for seed in range(4)
    ]
    found = rank_agreement(records(rows), A, [B]).iloc[0]
    cells = [[row[3:] for row in rows if row[0] == name] for name in names]
    taus = []
    for _ in range(3000):
        means = np.array([np.mean([cell[i] for i in draw.integers(4, size=4)], axis=0) for cell in cells])
        taus.append(kendalltau(means[:, 0], means[:, 1]).statistic)
    assert found["low"] <= found["tau"] <= found["high"]
    assert [found["low"], found["high"]] == pytest.approx(np.quantile(taus, (0.05, 0.95)), abs=0.21)
    assert found["fewest_runs"] == 4


def test_a_size_with_one_model_says_nothing(tmp_path: Path) -> None:
    assert rank_agreement(records([("mixer-b/32", 10, 0, 0.1, 0.1)]), A, [B]).empty
    assert rank_agreement(records([("mixer-b/32", 10, 0, 0.1, 0.1)]), A, ["absent/top1", A]).empty
