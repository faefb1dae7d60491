"""Figures from logs: what a log does not reach is left out by name, and never taken from the middle of training."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from analysis.figures.canvas.style import drawing_style
from analysis.figures.learning_curves import GAP, learning_curves, overfit_figure, with_gap
from analysis.runs.load import Records, load_records
from analysis.runs.rows import read_rows
from scaling.records.result import RunResult
from scaling.records.run_dir import RunDir
from scaling.records.run_plan import RunPlan
from tests.support.log_rows import log_row
from tests.support.synthetic_study import change_run, make_study


def records_of(study: Path) -> tuple[Records, pd.DataFrame]:
    records = load_records([study])
    rows = read_rows(records.run_dirs.values())[0].to_pandas()
    return replace(records, runs=with_gap(records, rows)), rows


def test_a_log_that_ends_early_gives_no_gap_and_is_named(tmp_path: Path) -> None:
    study = make_study(tmp_path, models=["mixer-b/32"], seeds=(0, 1, 2), fractions=(0.1, 1.0))
    whole, rows = records_of(study)
    assert whole.runs[GAP].notna().all()
    with drawing_style():
        drawings = (overfit_figure(whole), learning_curves(whole, rows))
    assert all(drawing and "Left out" not in drawing.caption for drawing in drawings)
    assert all(drawing and "do not reach" not in drawing.caption for drawing in drawings)
    cut = sorted(whole.run_dirs)[:2]
    for run_id in cut:
        events = RunDir(whole.run_dirs[run_id]).events
        lines = events.read_bytes().splitlines(keepends=True)
        events.write_bytes(b"".join(lines[: len(lines) // 2 + 1]))
    records, rows = records_of(study)
    gaps, before = (of.runs.set_index("run_id")[GAP] for of in (records, whole))
    assert set(gaps.index[gaps.isna()]) == set(cut)
    assert gaps.drop(cut).tolist() == before.drop(cut).tolist()
    with drawing_style():
        gap, curves = overfit_figure(records), learning_curves(records, rows)
    assert gap and curves
    for caption in (gap.caption, curves.caption):
        assert "2 of 6 runs" in caption and all(run_id in caption for run_id in cut)
    assert gap.points["num_runs"].sum() == 4


@pytest.mark.parametrize(("last_logged", "has_gap"), [(491, True), (490, False)])
def test_the_training_loss_is_of_the_last_log_interval(tmp_path: Path, last_logged: int, has_gap: bool) -> None:
    """Out of patience a run ends between two rows of its loss; one interval before, a row is missing."""
    study = make_study(tmp_path, models=["mixer-b/32"], seeds=(0,), fractions=(1.0,))
    (run_dir,) = load_records([study]).run_dirs.values()
    plan = RunPlan.load(run_dir)
    assert (plan.schedule.steps, plan.intervals.log_steps) == (500, 10)
    batch = plan.schedule.batch
    events = [
        log_row(plan.run_id, "step", last_logged, {"loss": 1.5}, batch=batch),
        log_row(plan.run_id, "eval", 500, {"upstream/loss": 1.75}, batch=batch),
        log_row(plan.run_id, "done", 500, {"upstream/loss": 9.0, "loss": 1.0}, batch=batch),
    ]
    RunDir(run_dir).events.write_bytes(b"".join(event.to_line() for event in events))
    records, _ = records_of(study)
    assert records.runs[GAP].dropna().tolist() == ([0.25] if has_gap else [])


def test_a_run_that_ended_early_ends_where_its_result_says(tmp_path: Path) -> None:
    study = make_study(tmp_path, models=["mixer-b/32"], seeds=(0,), fractions=(1.0,))
    (run_dir,) = load_records([study]).run_dirs.values()
    plan, result = RunPlan.load(run_dir), RunResult.load(run_dir)
    assert result is not None
    schedule = plan.schedule
    longer = schedule.model_copy(update={"steps": 2 * schedule.steps, "epochs": 2 * schedule.epochs})
    new = change_run(run_dir, {"schedule": longer}, {"stopped_early": True})
    events = RunDir(new).events
    batch = plan.schedule.batch
    rows = [
        log_row(new.name, "step", 500, {"loss": 1.5}, batch=batch),
        log_row(new.name, "eval", 500, {"upstream/loss": 1.75}, batch=batch),
    ]
    events.write_bytes(b"".join(event.to_line() for event in rows))
    records, _ = records_of(study)
    assert records.runs[GAP].tolist() == [0.25]
