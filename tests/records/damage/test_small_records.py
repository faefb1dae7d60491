"""Records beside results and logs: whatever bit or end is lost, what is read is what was written, or nothing."""

import json
import logging
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scaling.evaluate.runs import study_runs
from scaling.launch.backends.ray.order import load_batches as load_ray_batches
from scaling.launch.backends.slurm.batch import ArrayJob, batch_of, load_batches, mark_runs
from scaling.records.attempts.causes import Cause
from scaling.records.attempts.rank_failures import RankFailure, read_failures, report_failure
from scaling.records.frozen_sweep import frozen_sweep, write_sweep
from scaling.records.reading import sealed
from scaling.records.run_dir import RunDir, StudyDir
from scaling.records.scores.price import Price, sweep_price
from scaling.records.state import RunState, Status
from scaling.records.study import load_plan_order, save_plan_order
from tests.records.damage.finished_study import FinishedStudy
from tests.records.damage.kinds import flipped, in_its_place

SWEEP = "study: priced\nquestion: Which wins?\nlaunch: {price_per_device_hour: 25.5, currency: USD, backend: slurm}\n"

Damage = tuple[str, int]

DAMAGES = st.tuples(st.sampled_from(["flip", "cut"]), st.integers(0, 2**14))

per_folder = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def damage(path: Path, kind: Damage) -> None:
    content = path.read_bytes()
    path.write_bytes(flipped(content, kind[1]) if kind[0] == "flip" else content[: kind[1] % len(content)])


@per_folder
@given(kind=DAMAGES)
def test_a_damaged_sweep_gives_no_other_price_and_no_other_back_end(kind: Damage, tmp_path: Path) -> None:
    write_sweep(tmp_path, SWEEP)
    whole = frozen_sweep(tmp_path)
    assert sweep_price(whole) == Price(25.5, "USD")
    damage(StudyDir(tmp_path).sweep, kind)
    assert frozen_sweep(tmp_path) in (whole, {})


def test_a_damaged_sweep_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_sweep(tmp_path, SWEEP)
    path = StudyDir(tmp_path).sweep
    path.write_text(path.read_text().replace("25.5", "65.5"))
    assert frozen_sweep(tmp_path) == {}
    assert f"{path} is not what was written" in caplog.text and "until the study is launched again" in caplog.text


@per_folder
@given(kind=DAMAGES)
def test_a_damaged_state_is_made_from_the_ends(kind: Damage, tmp_path: Path) -> None:
    state = RunState(status=Status.RUNNING, attempt=3, step=123, train_seconds=4.5, energy_joules=678.9)
    state.save(tmp_path)
    damage(RunDir(tmp_path).state, kind)
    assert RunState.load(tmp_path) in (state, RunState())


@per_folder
@given(kind=DAMAGES)
def test_a_damaged_order_of_runs_is_none(kind: Damage, tmp_path: Path) -> None:
    save_plan_order(tmp_path, ["a-1", "b-2"])
    damage(StudyDir(tmp_path).order, kind)
    assert load_plan_order(tmp_path) in (["a-1", "b-2"], None)


@per_folder
@given(kind=DAMAGES)
def test_a_damaged_word_of_a_process_is_no_word(kind: Damage, tmp_path: Path) -> None:
    word = RankFailure(1, Cause.BAD_INPUT, "shard 7 is missing")
    report_failure(tmp_path, word)
    damage(RunDir(tmp_path).failure(1), kind)
    assert read_failures(tmp_path) in ([word], [])


def array_job(nonce: str, *runs: Path) -> ArrayJob:
    return ArrayJob(
        nonce=nonce, study="s", runs=tuple(map(str, runs)), retries=2, seconds=60, save_before=10, unix_time=1.0
    )


@per_folder
@given(kind=DAMAGES)
def test_a_damaged_mark_of_a_submission_names_no_other_task(kind: Damage, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir(exist_ok=True)
    mark_runs(array_job("abc", tmp_path / "run"))
    damage(RunDir(tmp_path / "run").job, kind)
    assert batch_of(tmp_path / "run") in (("abc", 0), None)


@pytest.mark.parametrize("kind", ["torn", "another number", "dangling link", "folder"])
def test_one_damaged_job_file_stops_no_launcher(kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    sound, victim = array_job("sound", tmp_path / "a"), array_job("victim", tmp_path / "b")
    sound.save(tmp_path)
    path = victim.save(tmp_path)
    content = path.read_text()
    if kind == "torn":
        path.write_text(content[: len(content) // 2])
    elif kind == "another number":
        path.write_text(content.replace('"retries": 2', '"retries": 3'))
    else:
        in_its_place(path, kind)
    ray = StudyDir(tmp_path).job("ray")
    ray.write_text(json.dumps(sealed({"ray_schema": 1, "nonce": "ray", "orders": "none"})))
    with caplog.at_level(logging.WARNING):
        assert load_batches(tmp_path) == load_batches(tmp_path) == [sound]
        assert load_ray_batches(tmp_path) == []
    assert (str(path) in caplog.text) == (kind != "dangling link") and str(ray) in caplog.text
    assert caplog.text.count(str(ray)) == 1, "a watch asks again and again"


def test_runs_that_cannot_be_read_keep_no_other_from_being_scored(
    study: FinishedStudy, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = study.copy(tmp_path)
    shutil.copytree(folder / study.other, folder / f"{study.other} (copy)")
    plan = RunDir(folder / study.victim).plan
    plan.write_bytes(plan.read_bytes()[:100])
    assert study_runs(folder) == [folder / study.other]
    assert str(plan) in caplog.text and "(copy)" in caplog.text
