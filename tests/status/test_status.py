"""`scaling.status`: loss, last validation and time left of running runs, one run's folder, and when watching ends."""

import json
import time
from pathlib import Path

import pytest

from scaling.launch.study_dir import write_study
from scaling.records.attempts.attempt import claim_attempt
from scaling.records.events import Event, EventWriter
from scaling.records.ownership.lease import Lease
from scaling.records.run_plan import RunPlan
from scaling.records.state import RunState, Status
from scaling.records.study import save_plan_order
from scaling.spec.document import Document
from scaling.status.command import main
from scaling.status.live import last_words, seconds_left
from tests.support.log_rows import log_row
from tests.support.run_plans import run_plan
from tests.support.scripted_backend import result_of


def event(plan: RunPlan, kind: str, step: int, **metrics: float) -> Event:
    return log_row(plan.run_id, kind, step, metrics, train_seconds=10.0, pause_seconds=5.0)  # type: ignore[arg-type]


@pytest.fixture
def plan(tmp_path: Path) -> RunPlan:
    """A run at step 60 of 100 that resumed at 40 and took 10 s for the 20 steps since."""
    plan = run_plan(steps=100)
    write_study(tmp_path, Document(tmp_path / "sweep.yaml", {"study": "test"}), [plan])
    run_dir = tmp_path / plan.run_id
    claim_attempt(run_dir)
    with EventWriter(run_dir / "events.jsonl") as writer:
        writer.write(event(plan, "eval", 50, **{"upstream/precision_at_1": 0.25, "upstream/loss": 1.0}))
        writer.write(event(plan, "step", 58, loss=0.5))
    with (run_dir / "events.jsonl").open("ab") as stream:
        stream.write(b'{"half": ')
    state = RunState(status=Status.RUNNING, attempt=1, step=60, resumed_step=40, train_seconds=10.0, host="here")
    state.model_copy(update={"heartbeat_unix_time": time.time()}).save(run_dir)
    return plan


def test_a_running_run_tells_loss_validation_and_time_left(
    tmp_path: Path, plan: RunPlan, capsys: pytest.CaptureFixture[str]
) -> None:
    """40 steps at .5 s each, and half as long again in pauses: 30 s."""
    lease = Lease(tmp_path / plan.run_id)
    assert lease.acquire()
    for folder in (tmp_path, tmp_path / plan.run_id):
        assert main([str(folder), "--json"]) == 0
        (row,) = json.loads(capsys.readouterr().out)
        assert (row["status"], row["loss"], row["last_validation"], row["last_validation_step"]) == (
            *("running", 0.5, 0.25, 50),
        )
        assert row["seconds_left"] == pytest.approx(30.0)
    assert main([str(tmp_path)]) == 0
    table = capsys.readouterr().out
    assert "25.0 %" in table and "30 s" in table and "0.5" in table
    lease.release()


def test_a_run_that_is_gone_has_no_time_left(tmp_path: Path, plan: RunPlan, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path), "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["status"] == "preempted" and row["seconds_left"] is None


def test_a_run_that_has_not_reported_yet_is_starting(
    tmp_path: Path, plan: RunPlan, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / plan.run_id / "state.json").unlink()
    lease = Lease(tmp_path / plan.run_id)
    assert lease.acquire()
    assert main([str(tmp_path)]) == 0
    told = capsys.readouterr().out
    assert "starting" in told and "heard of" not in told
    lease.release()


def test_watching_ends_with_a_result_and_waits_for_nothing_that_left_the_plan(
    tmp_path: Path, plan: RunPlan, capsys: pytest.CaptureFixture[str]
) -> None:
    """The run was killed between its result and its last state; another one left the plan half-way."""
    other = run_plan(seed=5)
    write_study(tmp_path, Document(tmp_path / "sweep.yaml", {"study": "test"}), [other])
    RunState(status=Status.PREEMPTED, attempt=1, step=3).save(tmp_path / other.run_id)
    save_plan_order(tmp_path, [plan.run_id])
    result_of(plan).save(tmp_path / plan.run_id)
    assert main([str(tmp_path), "--watch"]) == 0
    assert "1 done" in capsys.readouterr().out


def test_nothing_said_is_unknown(tmp_path: Path) -> None:
    assert last_words(tmp_path).loss is None
    assert seconds_left(RunState(step=5, resumed_step=5, train_seconds=1.0), 10, 0.0) is None


def test_the_end_of_a_long_log_is_read(tmp_path: Path) -> None:
    plan = run_plan()
    with EventWriter(tmp_path / "events.jsonl") as writer:
        for step in range(2000):
            writer.write(event(plan, "step", step, loss=float(step)))
    assert (tmp_path / "events.jsonl").stat().st_size > 300_000
    assert last_words(tmp_path).loss == 1999.0


def test_right_after_a_validation_the_loss_is_that_of_the_step_before(tmp_path: Path) -> None:
    plan = run_plan()
    with EventWriter(tmp_path / "events.jsonl") as writer:
        writer.write(event(plan, "step", 10, loss=0.5))
        writer.write(event(plan, "eval", 10, **{"upstream/precision_at_1": 0.25}))
    words = last_words(tmp_path)
    assert (words.loss, words.precision_at_1, words.validation_step) == (0.5, 0.25, 10)
