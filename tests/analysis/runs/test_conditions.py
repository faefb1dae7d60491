from pathlib import Path

import pandas as pd

from analysis.report.make_report import make_report
from analysis.report.methods import methods_text
from analysis.runs.load import load_records
from analysis.runs.measured import measured_alike
from analysis.runs.summary import cells
from scaling.records.result import RunResult
from scaling.records.run_plan import EvalPlan, InputPlan, RunPlan
from tests.support.synthetic_study import METRIC, change_run, change_steps, evaluation_of, make_study


def score(run_dir: Path, name: str, value: float, **settings: object) -> None:
    """A finished run as if it had been scored once more, under a name that it may have had."""
    plan = RunPlan.load(run_dir)
    asked = EvalPlan(kind="fewshot", name=name, settings=settings, added=True)
    plan.model_copy(update={"evals": (*(one for one in plan.evals if one.name != name), asked)}).save(run_dir)
    evaluation_of(plan, asked, {f"{name}/5shot_top1": value}, "Test CPU").save(run_dir)


def test_other_budgets_are_other_conditions(tmp_path: Path) -> None:
    studies = [make_study(tmp_path, name=f"s{steps}", models=["mixer-b/32"], steps=steps) for steps in (100, 500)]
    runs = load_records(studies).runs
    assert runs.groupby("condition")["steps"].unique().map(list).tolist() == [[100], [500]]


def test_runs_validated_on_other_images_are_not_averaged(tmp_path: Path) -> None:
    study = make_study(tmp_path, models=["mixer-b/32"], seeds=(0, 1))
    for path in sorted(study.glob("*_s1-*/run.json")):
        plan = RunPlan.load(path.parent)
        change_run(path.parent, {"val": plan.val.model_copy(update={"digest": "1" * 64})})
    runs = load_records([study]).runs
    assert {name.rpartition(", ")[2] for name in runs["condition"]} == {"validation set 1", "validation set 2"}
    assert runs.groupby("condition")["seed"].nunique().tolist() == [1, 1]


def test_epoch_budgets_that_differ_only_by_rounding_are_one_condition(tmp_path: Path) -> None:
    study = make_study(tmp_path, models=["mixer-b/32"], protocol="constant_epochs")
    for path in sorted(study.glob("*/run.json")):
        plan = RunPlan.load(path.parent)
        change_steps(path.parent, round(7 * plan.subset.num_samples / 64))
    assert load_records([study]).runs["condition"].nunique() == 1


def test_runs_of_one_size_with_other_learning_rates_are_not_averaged(tmp_path: Path) -> None:
    study = make_study(tmp_path, models=["mixer-b/32", "vit-b/32"], seeds=(0, 1))
    for path in sorted(study.glob("mixer*_s1-*/run.json")):
        plan = RunPlan.load(path.parent)
        change_run(path.parent, {"recipe": plan.recipe.model_copy(update={"learning_rate": 3e-3})})
    table = cells(load_records([study]), METRIC)
    assert set(table["model"]) == {"mixer-b/32 [learning_rate 0.001]", "mixer-b/32 [learning_rate 0.003]", "vit-b/32"}
    assert table.groupby("model")["num_runs"].max().to_dict()["vit-b/32"] == 2


def test_a_setting_that_changes_from_size_to_size_stays_one_series(tmp_path: Path) -> None:
    study = make_study(tmp_path, models=["mixer-b/32"], seeds=(0, 1))
    for path in sorted(study.glob("mixer*_100pct*/run.json")):
        plan = RunPlan.load(path.parent)
        change_run(path.parent, {"recipe": plan.recipe.model_copy(update={"weight_decay": 0.01})})
    assert set(cells(load_records([study]), METRIC)["model"]) == {"mixer-b/32"}


def test_permuted_inputs_are_series_of_their_own(tmp_path: Path) -> None:
    study = make_study(tmp_path, models=["mixer-b/32"], seeds=(0, 1, 2))
    inputs = {1: InputPlan(permute="patches_and_pixels", patch_size=32), 2: InputPlan(permute="global")}
    for path in sorted(study.glob("*/run.json")):
        plan = RunPlan.load(path.parent)
        change_run(path.parent, {"input": inputs.get(plan.seed, plan.input)})
    names = {"mixer-b/32 [permute none]", "mixer-b/32 [patches_and_pixels/32]", "mixer-b/32 [global]"}
    assert set(cells(load_records([study]), METRIC)["model"]) == names


def test_how_an_evaluation_cuts_its_forward_passes_is_no_condition(tmp_path: Path) -> None:
    study = make_study(tmp_path, models=["mixer-b/32"], seeds=(0, 1))
    for path in sorted(study.glob("*_s1-*/run.json")):
        plan = RunPlan.load(path.parent)
        evals = tuple(one.model_copy(update={"settings": {**one.settings, "batch": 8}}) for one in plan.evals)
        assert [one.digest() for one in evals] == [one.digest() for one in plan.evals]
        change_run(path.parent, {"evals": evals})
    runs = load_records([study]).runs
    assert runs["condition"].nunique() == 1 and runs[METRIC].notna().all()


def test_runs_that_ended_early_are_named(tmp_path: Path) -> None:
    study = make_study(tmp_path, models=["mixer-b/32"], seeds=(0,))
    assert "patience" not in methods_text(load_records([study]), METRIC, {}, 0)
    (run_dir,) = study.glob("*_010pct*")
    result = RunResult.load(run_dir)
    assert result is not None
    taken: dict[str, float] = {"steps": 250, "best_step": 200, "examples_seen": 250 * 64, "unique_examples": 1000}
    taken["images_per_second"] = taken["examples_seen"] / result.train_seconds
    result.model_copy(update={"stopped_early": True, **taken}).save(run_dir)
    told = methods_text(load_records([study]), METRIC, {}, 0)
    assert f"out of patience, and counted with what they really used: {run_dir.name}." in told


def test_a_further_evaluation_of_one_run_changes_nothing_of_what_all_share(tmp_path: Path, undrawn: None) -> None:
    study = make_study(tmp_path, models=["mixer-b/32", "vit-b/32"], seeds=(0, 1))
    report = [make_report(load_records([study]), tmp_path / "before", None)]
    first, second = sorted(study.glob("mixer*_s0-*"))[:2]
    for ways in ((first,), (first, second)):
        for shots, run_dir in enumerate(ways):
            score(run_dir, "ten", 0.5, shots=shots)
        report.append(make_report(load_records([study]), tmp_path / f"after{len(ways)}", None))
    for name in ("cells.csv", "comparisons.csv", "laws.csv"):
        texts = {path.read_text() for path in tmp_path.glob(f"*/{name}") if path.parent.name != study.name}
        assert len(texts) == 1, name
    assert ["measured in several ways" in one.words for one in report] == [False, False, True]
    told = report[2].words.partition("measured in several ways")[2]
    assert "evaluations of ten 1: shots 0; 2: shots 1 (--metric ten/5shot_top1)" in told
    assert pd.read_csv(tmp_path / "after2" / "runs.csv")["ten/5shot_top1"].notna().sum() == 2


def test_one_evaluation_measured_in_two_ways_is_two_conditions_that_say_what_differs(tmp_path: Path) -> None:
    study = make_study(tmp_path, models=["mixer-b/32", "vit-b/32"], seeds=(0, 1))
    for run_dir in sorted(study.glob("*_s1-*")):
        score(run_dir, "unseen", 0.5, solver="ridge")
    records = measured_alike(load_records([study]), METRIC)
    assert sorted(len(rows) for _, rows in records.runs.groupby("condition")) == [8, 8]
    assert set(records.runs.loc[records.runs["seed"] == 1, "condition"]) < set(records.runs["condition"])
    told = methods_text(records, METRIC, {}, 0)
    assert 'evaluations of unseen 1: solver "ridge"; 2: solver not said.' in told
    assert measured_alike(records, "upstream/loss").runs["condition"].nunique() == 1


def test_runs_of_one_seed_that_differ_in_the_subset_draw_are_told(tmp_path: Path) -> None:
    study = make_study(tmp_path, models=["mixer-b/32"], seeds=(0, 1, 2))
    assert "subset draw alone" not in methods_text(load_records([study]), METRIC, {}, 0)
    for path in sorted(study.glob("*_010pct_s2-*/run.json")) + sorted(study.glob("*_100pct_s2-*/run.json")):
        change_run(path.parent, {"seed": 1})
    records = load_records([study])
    assert len(records.runs) == 12
    told = methods_text(records, METRIC, {}, 0)
    assert "At 2 of 4 points, runs share seed 1 and differ in the subset draw alone; they count as independent" in told
