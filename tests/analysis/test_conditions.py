from pathlib import Path

from synthetic_study import METRIC, make_study

from analysis.load import load_records
from analysis.summary import cells
from scaling.records.run_plan import RunPlan


def test_other_budgets_are_other_conditions(tmp_path: Path) -> None:
    studies = [make_study(tmp_path, name=f"s{steps}", models=["mixer-b/32"], steps=steps) for steps in (100, 500)]
    runs = load_records(studies).runs
    assert runs.groupby("condition")["steps"].unique().map(list).tolist() == [[100], [500]]


def test_epoch_budgets_that_differ_only_by_rounding_are_one_condition(tmp_path: Path) -> None:
    study = make_study(tmp_path, models=["mixer-b/32"], protocol="constant_epochs")
    for path in study.glob("*/run.json"):
        plan = RunPlan.load(path.parent)
        steps = round(7 * plan.subset.num_samples / 64)
        schedule = plan.schedule.model_copy(update={"steps": steps, "epochs": steps * 64 / plan.subset.num_samples})
        plan.model_copy(update={"schedule": schedule}).save(path.parent)
    assert load_records([study]).runs["condition"].nunique() == 1


def test_runs_of_one_size_with_other_learning_rates_are_not_averaged(tmp_path: Path) -> None:
    study = make_study(tmp_path, models=["mixer-b/32", "vit-b/32"], seeds=(0, 1))
    for path in study.glob("mixer*_s1-*/run.json"):
        plan = RunPlan.load(path.parent)
        plan.model_copy(update={"recipe": plan.recipe.model_copy(update={"learning_rate": 3e-3})}).save(path.parent)
    table = cells(load_records([study]), METRIC)
    assert set(table["model"]) == {"mixer-b/32 [learning_rate 0.001]", "mixer-b/32 [learning_rate 0.003]", "vit-b/32"}
    assert table.groupby("model")["num_runs"].max().to_dict()["vit-b/32"] == 2


def test_a_setting_that_changes_from_size_to_size_stays_one_series(tmp_path: Path) -> None:
    study = make_study(tmp_path, models=["mixer-b/32"], seeds=(0, 1))
    for path in study.glob("mixer*_100pct*/run.json"):
        plan = RunPlan.load(path.parent)
        plan.model_copy(update={"recipe": plan.recipe.model_copy(update={"weight_decay": 0.01})}).save(path.parent)
    assert set(cells(load_records([study]), METRIC)["model"]) == {"mixer-b/32"}
