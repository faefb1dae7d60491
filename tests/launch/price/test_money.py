"""Money and compute in dry run, records and tables: told where they are known, and nothing where they are not."""

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from analysis.report.tables import cost_table
from analysis.runs.load import load_records
from scaling.launch.dry_run import describe_plan, plan_as_json
from scaling.launch.price.forecast import RateBook, train_flops
from scaling.launch.study_dir import NEVER_STARTED, PlannedRun
from scaling.records.attempts.causes import Cause
from scaling.records.attempts.ends import End, append_end
from scaling.records.frozen_sweep import frozen_sweep, write_sweep
from scaling.records.run_dir import StudyDir
from scaling.records.scores.price import Price, money_text, sweep_price
from scaling.spec.launch_spec import LaunchSpec
from tests.support.run_plans import run_plan
from tests.support.synthetic_study import make_study

EUROS = Price(3.0, "EUR")


def planned(count: int) -> list[PlannedRun]:
    plans = [run_plan(seed=seed, num_devices=4) for seed in range(count)]
    return [PlannedRun(Path("/runs/s") / plan.run_id, plan, NEVER_STARTED) for plan in plans]


def test_the_dry_run_tells_money_where_it_knows_the_time() -> None:
    runs, rates = planned(3), RateBook()
    assert "EUR" not in describe_plan(runs, rates, price=EUROS), "no time is known, so no money is"
    rates.add(runs[0].plan, device="A", num_devices=4, flops=train_flops(runs[0].plan), seconds=600.0)
    # Three runs of ten minutes on four devices are two device-hours.
    assert "2 h 00 min of device time" in (text := describe_plan(runs, rates, price=EUROS))
    assert text.count("6.00 EUR at 3 EUR a device-hour") == 1
    assert "EUR" not in describe_plan(runs, rates)
    facts = json.loads("".join(plan_as_json(runs, rates, price=EUROS)))
    assert [(row["forecast_money"], row["currency"]) for row in facts] == [(pytest.approx(2.0), "EUR")] * 3
    assert [row["forecast_money"] for row in json.loads("".join(plan_as_json(runs, rates)))] == [None] * 3


def test_the_dry_run_checks_its_compute_by_the_papers_rule() -> None:
    (run,) = planned(1)
    ratio = 3 * run.plan.model.flops_forward_per_image / run.plan.model.flops_train_per_image
    told = f"{'more' if ratio >= 1 else 'less'} than counted"
    assert "6 x GMACs x images" in (text := describe_plan([run], RateBook())) and told in text


@pytest.mark.parametrize(
    ("section", "told"),
    [
        ({"price_per_device_hour": 2.5}, "currency: USD"),
        ({"currency": "USD"}, "price_per_device_hour: 2.5"),
        ({"price_per_device_hour": -1, "currency": "USD"}, "greater than 0"),
        ({"price_per_device_hour": 2.5, "currency": "dollars"}, "pattern"),
    ],
)
def test_half_a_price_is_refused(section: dict[str, object], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        LaunchSpec.model_validate(section)


def test_small_amounts_keep_their_digits() -> None:
    assert [money_text(x, "USD") for x in (0, 0.0123, 12.345, 12345.6)] == [
        "0.00 USD", "0.012 USD", "12.35 USD", "12,345.60 USD"
    ]  # fmt: skip


def test_the_report_tells_what_each_model_cost(tmp_path: Path) -> None:
    study = make_study(tmp_path, models=["mixer-b/32", "vit-b/32"], seeds=(0, 1), fractions=(0.1, 1.0))
    assert sweep_price(frozen_sweep(study)) is None
    records = load_records([study])
    assert records.runs["money"].isna().all() and records.runs["energy_joules"].isna().all()
    assert not any("USD" in name or "energy" in name for name in cost_table(records))
    write_sweep(study, "study: x\nlaunch: {price_per_device_hour: 2.5, currency: USD}\n")
    for run in StudyDir(study).run_dirs():
        if "mixer" in run.path.name:
            append_end(run.path, End(attempt=1, cause=Cause.DONE, train_seconds=1.0, energy_joules=1.8e6))
    records = load_records([study])
    assert records.runs["money"].tolist() == pytest.approx((2.5 * records.runs["device_hours"]).tolist())
    table = cost_table(records).set_index("model")
    hours = records.runs.groupby("family")["device_hours"].sum()
    # Energy of four runs of half a kilowatt-hour each; nobody knows that of ViT, and blank is not 0.
    assert table["energy in all, kWh"].to_dict() == {"Mixer-B/32": "2", "ViT-B/32": ""}
    assert table.loc["ViT-B/32", "USD in all"] == money_text(2.5 * hours["vit"], "").rstrip()


@pytest.mark.parametrize(
    ("differing", "told"),
    [
        ({"device": "H100"}, "H100, fp32"),
        ({"precision": "bf16"}, "Test CPU, bf16"),
        ({"num_devices": 8}, "Test CPU, fp32, 8 devices"),
    ],
)
def test_hours_of_different_devices_are_never_averaged(tmp_path: Path, differing: dict, told: str) -> None:
    records = load_records([make_study(tmp_path, models=["mixer-b/32", "vit-b/32"], seeds=(0, 1), fractions=(1.0,))])
    assert "trained on" not in cost_table(records), "one kind of device stands in the methods"
    is_other = (records.runs["seed"] == 1) & (records.runs["family"] == "mixer")
    records.runs["device_hours"] = records.runs["seed"].map({0: 1.0, 1: 100.0})
    for name, value in differing.items():
        records.runs[name] = records.runs[name].where(~is_other, value)
    table = cost_table(records)
    assert table[["model", "trained on", "runs", "device-hours a run"]].to_numpy().tolist() == [
        ["Mixer-B/32", "Test CPU, fp32", "1", "1"],
        ["Mixer-B/32", told, "1", "100"],
        ["ViT-B/32", "Test CPU, fp32", "2", "50.5"],
    ]
