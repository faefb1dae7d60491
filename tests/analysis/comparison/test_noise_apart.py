"""Differences between models that were scored on other test images, or with other support draws, hold that noise."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from analysis.comparison.compare import at_matched_data, difference_from, widened
from analysis.comparison.crossover import crossovers
from analysis.comparison.noise_apart import NoiseApart
from analysis.figures.learning_curves import with_gap
from analysis.laws.study_laws import study_laws
from analysis.report.sections import condition_part
from analysis.runs.load import Records, load_records
from analysis.runs.overlay import overlaid
from analysis.runs.rows import read_rows
from scaling.records.run_plan import SourcePlan
from tests.support.synthetic_study import METRIC, make_study

NUM_TEST = 400


def two_studies(root: Path, tests: Sequence[str], draws: Sequence[tuple[int, ...]], seeds: int = 3) -> Records:
    """Two studies of one model each in one condition, as if planned on these test sets and support draws."""
    studies = [
        make_study(root, name=name, models=[model], seeds=range(seeds))
        for name, model in (("first", "mixer-b/32"), ("second", "vit-b/32"))
    ]
    records = load_records(studies)
    support = SourcePlan(manifest="/s", digest="5" * 64, label_type="single", num_classes=20, num_samples=200)
    names = ("first", "second")
    test_of, draws_of = dict(zip(names, tests, strict=True)), dict(zip(names, draws, strict=True))
    plans = {}
    for run_id, plan in records.plans.items():
        digest = test_of[plan.study] * 64
        test = support.model_copy(update={"manifest": "/t", "digest": digest, "num_samples": NUM_TEST})
        update = {"sources": {"support": support, "test": test}, "settings": {"support_seeds": draws_of[plan.study]}}
        plans[run_id] = plan.model_copy(update={"evals": (plan.evals[0].model_copy(update=update),)})
    scores = {f"{METRIC}_seed{seed}": records.runs[METRIC] + move for seed, move in ((0, 0.01), (1, -0.01))}
    return replace(records, plans=plans, runs=records.runs.assign(**scores))


def test_models_with_the_same_test_images_and_draws_keep_their_interval(tmp_path: Path) -> None:
    records = two_studies(tmp_path, tests="aa", draws=[(0, 1), (0, 1)])
    plain = load_records([tmp_path / "first", tmp_path / "second"])
    found, before = (at_matched_data(of, METRIC).drop(columns="evaluation_alone") for of in (records, plain))
    assert found.equals(before)
    assert NoiseApart(records, METRIC).text(at_matched_data(records, METRIC)) == ""


@pytest.mark.parametrize(
    ("tests", "draws"), [("ab", [(0, 1), (0, 1)]), ("aa", [(0, 1), (2, 3)]), ("ab", [(0, 1), (2, 3)])]
)
def test_other_images_and_other_draws_widen_by_their_variances(
    tmp_path: Path, tests: str, draws: list[tuple[int, int]]
) -> None:
    records = two_studies(tmp_path, tests, draws)
    plain = at_matched_data(two_studies(tmp_path / "alike", "aa", [(0, 1), (0, 1)]), METRIC)
    for row, before in zip(at_matched_data(records, METRIC).itertuples(), plain.itertuples(), strict=True):
        known = 0.0
        for mean in (row.mean_a, row.mean_b):
            known += mean * (1 - mean) / NUM_TEST if tests == "ab" else 0.0
            known += 0.01**2 if draws[0] != draws[1] else 0.0  # two draws 0.01 to each side of their mean
        freedom = 8  # three pairs at each of four sizes
        seeds = ((before.high - before.low) / 2 / stats.t.ppf(0.95, freedom)) ** 2
        both = freedom * (seeds + known) ** 2 / seeds**2
        reach = stats.t.ppf(0.95, both) * math.sqrt(seeds + known)
        assert (row.low, row.high) == pytest.approx((row.difference - reach, row.difference + reach), rel=1e-9)
        assert row.p_a_better == pytest.approx(stats.t.cdf(row.difference / math.sqrt(seeds + known), both), abs=1e-9)
        assert abs(row.p_a_better - 0.5) < abs(before.p_a_better - 0.5)


def test_the_widened_interval_covers_as_stated() -> None:
    draw = np.random.default_rng(0)
    hits, trials, error = 0, 4000, 0.02
    for _ in range(trials):
        gap = 0.02 * draw.standard_normal(4) + error * draw.standard_normal()
        found = widened(difference_from(gap.mean(), gap.std(ddof=1) / 2, 3, 4), error)
        hits += found.low < 0 < found.high
    assert hits / trials == pytest.approx(0.9, abs=0.02)


def test_crossovers_know_it_too_and_the_same_event_has_one_probability(tmp_path: Path) -> None:
    alike = two_studies(tmp_path / "alike", "aa", [(0, 1), (0, 1)])
    apart = two_studies(tmp_path / "apart", "ab", [(0, 1), (0, 1)])
    laws, _ = study_laws(alike, METRIC)
    (sure,), (unsure,) = (crossovers(one, METRIC, laws).to_dict("records") for one in (alike, apart))
    rows = at_matched_data(apart, METRIC)
    first = rows.iloc[0]["p_a_better"]
    assert unsure["p_earlier_at_first"] == pytest.approx(max(first, 1 - first))
    assert unsure["p_earlier_at_first"] < sure["p_earlier_at_first"]
    assert unsure["p_crossed_in_data"] <= min(unsure["p_earlier_at_first"], unsure["p_later_at_last"])


def test_the_report_says_whose_intervals_hold_what(tmp_path: Path) -> None:
    records = two_studies(tmp_path, "ab", [(0, 1), (0, 1)], seeds=2)
    rows = read_rows([])[0].to_pandas()
    part = condition_part(replace(records, runs=with_gap(records, rows)), rows, METRIC)
    (compared,) = (section for section in part.sections if section.title.endswith("Models compared"))
    assert "In 4 of 4 rows the models were scored on other test images or support draws" in compared.tables[0].caption
    assert "hold the noise of both evaluations" in compared.tables[0].caption


def test_a_loss_says_that_its_noise_is_not_known(tmp_path: Path) -> None:
    first, second = (make_study(tmp_path, name=name, models=[model], seeds=(0, 1))
                     for name, model in (("first", "mixer-b/32"), ("second", "vit-b/32")))  # fmt: skip
    records = load_records([first, second])
    plans = {
        run_id: plan.model_copy(update={"val": plan.val.model_copy(update={"digest": plan.study[0] * 64})})
        for run_id, plan in records.plans.items()
    }
    records = overlaid(replace(records, plans=plans))
    for metric, words in (("upstream/loss", "not known in closed form"), ("upstream/precision_at_1", "hold the noise")):
        assert words in NoiseApart(records, metric).text(at_matched_data(records, metric))


def test_one_seed_has_the_noise_of_the_evaluations_in_place_of_an_interval(tmp_path: Path) -> None:
    """Against the binomial variance, and drawn anew: two models that err independently differ by so much."""
    records = two_studies(tmp_path, "aa", [(0, 1), (0, 1)], seeds=1)
    table = at_matched_data(records, METRIC)
    for row in table.itertuples():
        assert math.isnan(row.low) and math.isnan(row.p_a_better)
        variance = sum(mean * (1 - mean) / NUM_TEST + 0.01**2 for mean in (row.mean_a, row.mean_b))
        assert row.evaluation_alone == pytest.approx(stats.norm.ppf(0.95) * math.sqrt(variance), rel=1e-3)
    row = next(table.itertuples())
    draw = np.random.default_rng(0)
    a, b = (draw.binomial(NUM_TEST, mean, 20_000) / NUM_TEST + 0.01 * draw.standard_normal(20_000)
            for mean in (row.mean_a, row.mean_b))  # fmt: skip
    inside = np.mean(np.abs((a - b) - (row.mean_a - row.mean_b)) <= row.evaluation_alone)
    assert inside == pytest.approx(0.9, abs=0.01)
    rows, _ = read_rows(records.run_dirs.values())
    records = replace(records, runs=with_gap(records, rows.to_pandas()))
    section = next(
        one for one in condition_part(records, rows.to_pandas(), METRIC).sections if one.title == "Models compared"
    )
    text = f"± {100 * row.evaluation_alone:.1f}, evaluation alone"
    assert text in set(section.tables[0].table["90 % interval"])
    assert "as if the models erred independently" in section.tables[0].caption
    assert "the noise of the evaluations alone" in str(section.drawings[0].svg())


def test_noise_that_is_not_known_is_not_told(tmp_path: Path) -> None:
    records = load_records([make_study(tmp_path, models=["mixer-b/32", "vit-b/32"], seeds=(0,))])
    assert at_matched_data(records, METRIC)["evaluation_alone"].isna().all()
