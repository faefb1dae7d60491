from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.comparison.compare import at_matched_data, difference_from
from analysis.comparison.crossover import crossovers
from analysis.comparison.matched_cost import (
    at_matched_cost,
    at_matched_speed,
    family_curves,
    model_curves,
    unclear_families,
)
from analysis.figures.learning_curves import with_gap
from analysis.laws.study_laws import study_laws
from analysis.report.sections import condition_part
from analysis.runs.load import Records, load_records
from analysis.runs.rows import read_rows
from analysis.runs.tables.from_csv import records_from_csv
from scaling.errors import UserError
from tests.support.synthetic_study import METRIC, Truth, make_study


def curve(floor: float, scale: float, exponent: float) -> Truth:
    return Truth(floor, scale, exponent, 1000, 60_000_000, 8.0)


def test_the_paired_interval_is_students_with_the_spread_pooled_over_sizes(tmp_path: Path) -> None:
    records = load_records([make_study(tmp_path, models=["mixer-b/32", "vit-b/32"], seeds=range(4))])
    table = at_matched_data(records, METRIC)
    wide = records.runs.pivot(index=["num_images", "seed"], columns="model", values=METRIC)
    gap = wide["mixer-b/32"] - wide["vit-b/32"]
    centred = gap - gap.groupby("num_images").transform("mean")
    error = np.sqrt((centred**2).sum() / 12 / 4)
    for row in table.itertuples():
        mean = gap[row.at].mean()
        assert row.difference == pytest.approx(mean, abs=1e-12)
        assert (row.low, row.high) == pytest.approx(stats.t.interval(0.9, 12, mean, error), abs=1e-12)
        assert row.p_a_better == pytest.approx(stats.t.sf(0, 12, mean, error), abs=1e-12)
        assert row.pairs == 4


def test_of_a_loss_the_lower_is_the_better(tmp_path: Path) -> None:
    records = load_records([make_study(tmp_path, models=["mixer-b/32", "vit-b/32"], seeds=range(4))])
    loss, accuracy = (at_matched_data(records, metric) for metric in ("upstream/loss", METRIC))
    assert loss["difference"].tolist() == pytest.approx((-accuracy["difference"]).tolist())
    assert loss["p_a_better"].tolist() == pytest.approx(accuracy["p_a_better"].tolist())


def test_one_seed_gives_a_difference_without_an_interval(tmp_path: Path) -> None:
    records = load_records([make_study(tmp_path, models=["mixer-b/32", "vit-b/32"], seeds=(0,))])
    table = at_matched_data(records, METRIC)
    assert len(table) == 4
    assert table[["low", "high", "p_a_better"]].isna().all(axis=None)


def test_without_common_seeds_the_interval_is_welchs(tmp_path: Path) -> None:
    one = make_study(tmp_path, name="a", models=["mixer-b/32"], seeds=(0, 1, 2), fractions=(1.0,))
    two = make_study(tmp_path, name="b", models=["vit-b/32"], seeds=(5, 6, 7, 8), fractions=(1.0,))
    records = load_records([one, two])
    (row,) = at_matched_data(records, METRIC).itertuples()
    a, b = (records.runs.loc[records.runs["model"] == m, METRIC] for m in ("mixer-b/32", "vit-b/32"))
    interval = stats.ttest_ind(a, b, equal_var=False).confidence_interval(0.9)
    assert (row.low, row.high) == pytest.approx(tuple(interval), rel=1e-9)


def test_matched_compute_stays_inside_what_both_models_measured(tmp_path: Path) -> None:
    studies = [
        make_study(tmp_path, name=f"steps{steps}", models=["mixer-b/32", "vit-b/32"], seeds=(0, 1), steps=steps)
        for steps in (200, 400, 800)
    ]
    records = load_records(studies)
    table = at_matched_cost(model_curves(records, METRIC, "flops"), "flops", records.metric(METRIC))
    ranges = records.runs.groupby("model")["flops"].agg(["min", "max"])
    assert len(table) == 3
    assert table["at"].min() >= ranges["min"].max() * (1 - 1e-9)
    assert table["at"].max() <= ranges["max"].min() * (1 + 1e-9)


def test_one_cost_per_model_gives_no_matched_compute_row(tmp_path: Path) -> None:
    records = load_records([make_study(tmp_path, models=["mixer-b/32", "vit-b/32"])])
    assert at_matched_cost(model_curves(records, METRIC, "flops"), "flops", records.metric(METRIC)).empty


def test_families_are_compared_between_their_models_only(tmp_path: Path) -> None:
    models = ["mixer-b/32", "mixer-l/16", "vit-b/32", "vit-l/32", "bit-r152x2"]
    records = load_records([make_study(tmp_path, models=models, seeds=(0, 1), noise=0.0)])
    table = at_matched_cost(family_curves(records, METRIC, "flops"), "flops", records.metric(METRIC))
    cost = records.runs.groupby("model")["flops"].median()
    assert set(zip(table["model_a"], table["model_b"], strict=True)) == {("mixer", "vit")}
    assert table["at"].tolist() == pytest.approx(np.geomspace(cost["vit-b/32"], cost["vit-l/32"], 3).tolist())
    full = records.runs[records.runs["num_images"] == 10_000].groupby("model")[METRIC].mean()
    share = np.log(cost["vit-b/32"] / cost["mixer-b/32"]) / np.log(cost["mixer-l/16"] / cost["mixer-b/32"])
    mixer = full["mixer-b/32"] + share * (full["mixer-l/16"] - full["mixer-b/32"])
    assert table["mean_a"].iloc[0] == pytest.approx(mixer)
    assert table["mean_b"].iloc[0] == pytest.approx(full["vit-b/32"])


FAMILY_RATES = {"mixer-s/16": 100.0, "mixer-b/16": 25.0, "vit-s/16": 80.0, "vit-b/16": 20.0}


def two_rates_of_learning(path: Path, good: float, bad: float) -> Records:
    """A table in which both sizes of Mixer were trained at a good and at a bad learning rate, and those of ViT once."""
    rows = [
        {"model": model, "num_images": 1000, "seed": seed, "learning_rate": rate, "flops": 1e14 / speed,
         "images_per_second": speed, METRIC: score + 0.01 * seed}
        for model, speed in FAMILY_RATES.items()
        for rate, score in ((good, 0.5), (bad, 0.2))[: 2 if "mixer" in model else 1]
        for seed in (0, 1)
    ]  # fmt: skip
    pd.DataFrame(rows).to_csv(path, index=False)
    return records_from_csv([path], METRIC)


def test_a_family_with_several_series_of_a_model_is_left_out_whatever_they_are_called(tmp_path: Path) -> None:
    """The one that came last in the order of its label stood for the family, in silence."""
    for number, rates in enumerate(((0.1, 0.001), (0.001, 0.1))):
        records = two_rates_of_learning(tmp_path / f"{number}.csv", *rates)
        assert set(family_curves(records, METRIC, "flops")) == {"vit"}
        assert at_matched_speed(records, METRIC).empty
        series = {name for name in records.runs["model"] if name.startswith("mixer")}
        assert {name: set(found) for name, found in unclear_families(records, METRIC).items()} == {"mixer": series}
        rows = read_rows([])[0].to_pandas()
        part = condition_part(replace(records, runs=with_gap(records, rows)), rows, METRIC)
        (section,) = (section for section in part.sections if section.title == "Models compared")
        assert all(records.models[name].title in section.text for name in series)
        assert "no two families have a common range" not in section.text
    one = records.runs[~records.runs["model"].isin([name for name in series if "0.1" in name])]
    records = replace(records, runs=one.reset_index(drop=True))
    assert set(family_curves(records, METRIC, "flops")) == {"mixer", "vit"}
    assert not unclear_families(records, METRIC)


def test_two_models_of_a_family_at_one_cost_leave_it_out(tmp_path: Path) -> None:
    models = ["mixer-b/32", "mixer-l/16", "bit-r152x2", "vit-b/32", "vit-l/32"]
    records = load_records([make_study(tmp_path, models=models, seeds=(0, 1))])
    records.runs["family"] = records.runs["family"].replace("bit", "mixer")
    cost = records.runs.groupby("model")["flops"].median()
    records.runs.loc[records.runs["model"] == "bit-r152x2", "flops"] = cost["mixer-b/32"]
    assert set(family_curves(records, METRIC, "flops")) == {"vit"}
    found = unclear_families(records, METRIC)
    assert {name: set(series) for name, series in found.items()} == {"mixer": {"bit-r152x2", "mixer-b/32"}}


def test_runs_that_repeat_a_seed_at_one_cost_count_with_their_mean(tmp_path: Path) -> None:
    records = load_records([make_study(tmp_path, models=["mixer-b/32"], seeds=(0, 1), fractions=(1.0,))])
    values = records.runs[METRIC].tolist()
    records.runs["seed"] = 0
    records.runs["subset_seed"] = [0, 1]
    ((curve,),) = ([*seeds.values()] for seeds in model_curves(records, METRIC, "flops").values())
    assert curve[1].tolist() == pytest.approx([np.mean(values)])


@pytest.mark.parametrize("differing", [{"device": "another"}, {"precision": "bf16"}, {"num_devices": 8}])
def test_hours_of_different_devices_are_never_matched_and_flops_always(differing: dict, tmp_path: Path) -> None:
    records = load_records([make_study(tmp_path, models=["mixer-b/32", "mixer-l/16"], seeds=(0, 1))])
    is_first = records.runs["seed"] == 0
    for name, value in differing.items():
        records.runs[name] = records.runs[name].where(is_first, value)
    for curves in (model_curves, family_curves):
        with pytest.raises(UserError, match="device_hours were measured in 2 ways"):
            curves(records, METRIC, "device_hours")
        found = curves(records, METRIC, "flops")
        assert all(set(by_seed) == {0, 1} for by_seed in found.values()), "no device is left out in silence"


def verdicts(tmp_path: Path, first: Truth, second: Truth, noise: float) -> pd.Series:
    truths = {"mixer-b/32": first, "vit-b/32": second}
    records = load_records([make_study(tmp_path, models=list(truths), truths=truths, noise=noise, seeds=range(4))])
    laws, _ = study_laws(records, METRIC)
    return crossovers(records, METRIC, laws).iloc[0]


def test_a_crossover_inside_the_data_is_found_where_it_is(tmp_path: Path) -> None:
    first, second = curve(0.40, 0.10, 0.7), curve(0.20, 0.40, 0.7)
    found = verdicts(tmp_path, first, second, 0.003)
    true_size = 1000 * (0.30 / 0.20) ** (1 / 0.7)
    assert (found.verdict, found.earlier, found.later) == ("crosses", "mixer-b/32", "vit-b/32")
    assert found["low"] <= true_size * 1.15
    assert found["high"] >= true_size / 1.15
    assert abs(np.log2(found["size"] / true_size)) < 0.3


def test_parallel_curves_do_not_cross(tmp_path: Path) -> None:
    found = verdicts(tmp_path, curve(0.30, 0.10, 0.7), curve(0.40, 0.10, 0.7), 0.003)
    assert found.verdict == "none in range"
    assert np.isnan(found["size"])


def test_equal_curves_are_not_told_apart_at_first(tmp_path: Path) -> None:
    found = verdicts(tmp_path, curve(0.30, 0.10, 0.7), curve(0.30, 0.10, 0.7), 0.01)
    assert found.verdict == "not told apart at first"
    assert np.isnan(found["size"])


def test_difference_without_spread_is_certain() -> None:
    assert difference_from(0.1, 0.0, 3, 4).p_positive == 1.0
