"""Runs executed otherwise than before are marked in a report, and a repeat elsewhere says what it was made with."""

import shutil
from dataclasses import replace
from pathlib import Path

from analysis.__main__ import main
from analysis.report.methods import methods_text
from analysis.runs.load import load_records
from scaling.records.result import RunResult
from scaling.records.run_plan import RunPlan
from tests.support.synthetic_study import METRIC, make_study


def test_a_changed_run_is_marked_in_table_and_text(tmp_path: Path, undrawn: None) -> None:
    study = make_study(tmp_path, models=["mixer-b/32"], seeds=(0, 1), fractions=(0.3, 1.0))
    run = sorted(study.glob("*_100pct_s1*"))[0]
    result = RunResult.load(run)
    result.model_copy(update={"changes": ("trained again with threads 2 instead of 1",), "threads": 2}).save(run)
    assert main([str(study), "--out", str(tmp_path / "report")]) == 0
    text = (tmp_path / "report" / "report.md").read_text()
    (row,) = [line for line in text.splitlines() if line.startswith("| Mixer-B/32 |")][:1]
    cells = row.split("|")
    assert [cell.strip().endswith("(2)†") for cell in cells[2:4]] == [False, True]
    assert "† 1 of 4 runs were continued or trained again" in text
    assert f"{run.name} trained again with threads 2 instead of 1." in text
    assert "CPU threads of a process: 1 (3 runs), 2 (1 runs)" in text
    assert r"$\dagger$" in (tmp_path / "report" / "cells.tex").read_text()


def test_unfair_subsets_are_told(tmp_path: Path, undrawn: None) -> None:
    study = make_study(tmp_path, models=["mixer-b/32"], seeds=(0,), fractions=(0.3, 1.0))
    (run,) = study.glob("*_030pct*")
    plan = RunPlan.load(run)
    plan.model_copy(update={"subset": plan.subset.model_copy(update={"label_spread": 52.6})}).save(run)
    assert main([str(study), "--out", str(tmp_path / "report")]) == 0
    text = (tmp_path / "report" / "report.md").read_text()
    assert "1 of 2 runs saw subsets that are no fair samples" in text and "52.6 times as much as by chance" in text


def test_no_mark_without_a_change(tmp_path: Path, undrawn: None) -> None:
    study = make_study(tmp_path, models=["mixer-b/32"], seeds=(0,))
    assert main([str(study), "--out", str(tmp_path / "report")]) == 0
    text = (tmp_path / "report" / "report.md").read_text()
    assert "†" not in text and "no fair samples" not in text and "CPU threads of a process: 1." in text


def test_a_repeat_in_another_folder_says_how_it_differs(tmp_path: Path) -> None:
    studies = [make_study(tmp_path / name, models=["mixer-b/32"], seeds=(0,), fractions=(1.0,)) for name in "ab"]
    (run,) = studies[1].glob("*pct*")
    RunResult.load(run).model_copy(update={"threads": 2}).save(run)
    (reason,) = load_records(studies).excluded["reason"]
    assert reason.endswith("which is used; this one was trained with threads 2 instead of 1")


def test_unequal_seeds_and_settings_of_some_models_are_said(tmp_path: Path, undrawn: None) -> None:
    study = make_study(tmp_path, models=["mixer-b/32", "vit-b/32"], seeds=(0, 1, 2), fractions=(0.3, 1.0))
    for run in [*study.glob("vit*_100pct_s2*")]:
        shutil.rmtree(run)
    assert main([str(study), "--out", str(tmp_path / "report")]) == 0
    text = (tmp_path / "report" / "report.md").read_text()
    assert "In 1 of 2 rows A - B is not the difference of the means" in text
    records = load_records([study])
    rates = records.runs["model"].map({"mixer-b/32": 1e-3, "vit-b/32": 3e-3})
    told = methods_text(replace(records, runs=records.runs.assign(learning_rate=rates)), METRIC, {}, 0)
    assert "learning rate 0.001 (Mixer-B/32), 0.003 (ViT-B/32); " in told
