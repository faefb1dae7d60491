"""What status takes from a scheduler's last word: only what the run itself has not outdated."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from scaling.launch.study_dir import write_study
from scaling.records.attempts.attempt import claim_attempt
from scaling.records.attempts.causes import Cause
from scaling.records.attempts.ends import End, append_end
from scaling.records.ownership.lease import Lease
from scaling.records.ownership.stop_request import request_stop
from scaling.records.run_dir import StudyDir
from scaling.records.run_plan import RunPlan
from scaling.records.scheduler_word import RunWord, SchedulerWord
from scaling.spec.document import Document
from scaling.status.command import main
from tests.support.run_plans import run_plan
from tests.support.scripted_backend import result_of


@pytest.fixture
def plan(tmp_path: Path) -> RunPlan:
    plan = run_plan()
    write_study(tmp_path, Document(tmp_path / "sweep.yaml", {"study": "test"}), [plan])
    return plan


def say(study: Path, plan: RunPlan, phase: str, reason: str = "", age: float = 90.0, **more: Any) -> None:
    word = RunWord(phase=phase, reason=reason, where="n1 17_0", unix_time=time.time() - age)  # type: ignore[arg-type]
    SchedulerWord(scheduler="Slurm", runs={plan.run_id: word}, **more).save(study)


def end(run_dir: Path, cause: Cause, age: float) -> None:
    attempt = claim_attempt(run_dir, "17_0/0")
    append_end(run_dir, End(attempt=attempt.attempt, cause=cause, job="17_0/0", unix_time=time.time() - age))


def row(study: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert main([str(study), "--json"]) == 0
    [found] = json.loads(capsys.readouterr().out)
    return dict(found)


@pytest.mark.parametrize(
    ("phase", "reason", "status", "told"),
    [
        (
            "queued",
            "waits for free nodes (Resources)",
            "queued",
            "17_0 waits for free nodes (Resources); Slurm said so 1",
        ),
        ("running", "", "starting", "started on n1 17_0, has not reported yet; Slurm said so 1"),
        ("unknown", "handed to Slurm a moment ago", "submitted", "handed to Slurm a moment ago; Slurm said so 1"),
        ("gone", "Slurm has no record of it any more", "lost", "Slurm has no record of it any more; Slurm said so 1"),
    ],
)
def test_a_run_that_nobody_holds_is_told_by_its_scheduler(
    phase: str, reason: str, status: str, told: str, tmp_path: Path, plan: RunPlan, capsys: pytest.CaptureFixture[str]
) -> None:
    say(tmp_path, plan, phase, reason)
    found = row(tmp_path, capsys)
    assert found["status"] == status and told in found["error"]
    assert 90 <= found["scheduler"]["age_seconds"] < 200
    alone = row(tmp_path / plan.run_id, capsys)
    assert (alone["status"], alone["scheduler"]["reason"]) == (status, reason)
    assert main([str(tmp_path)]) == 0
    assert told in capsys.readouterr().out


def test_what_the_run_has_said_since_outdates_it(
    tmp_path: Path, plan: RunPlan, capsys: pytest.CaptureFixture[str]
) -> None:
    say(tmp_path, plan, "queued", "waits", age=90)
    end(tmp_path / plan.run_id, Cause.PREEMPTED, age=60)
    found = row(tmp_path, capsys)
    assert found["status"] == "preempted" and found["scheduler"] is None and found["requeues"] == {}
    say(tmp_path, plan, "queued", "waits", age=30)
    found = row(tmp_path, capsys)
    assert found["status"] == "queued" and found["requeues"] == {"preempted": 1}
    request_stop(tmp_path / plan.run_id, Cause.CANCELLED)
    assert row(tmp_path, capsys)["status"] == "cancelled"
    result_of(plan).save(tmp_path / plan.run_id)
    assert row(tmp_path, capsys)["status"] == "done"


def test_a_living_run_is_told_by_itself_and_that_it_hangs_by_its_scheduler(
    tmp_path: Path, plan: RunPlan, capsys: pytest.CaptureFixture[str]
) -> None:
    lease = Lease(tmp_path / plan.run_id)
    assert lease.acquire()
    end(tmp_path / plan.run_id, Cause.LOST, age=500)
    end(tmp_path / plan.run_id, Cause.OUT_OF_TIME, age=400)
    say(tmp_path, plan, "queued", "waits")
    found = row(tmp_path, capsys)
    assert found["status"] == "running" and found["error"] == ""
    assert found["requeues"] == {"lost": 1, "out_of_time": 1}
    say(tmp_path, plan, "running", "hangs: its heartbeat has stood still for 400 s")
    assert main([str(tmp_path)]) == 0
    told = capsys.readouterr().out
    assert "hangs: its heartbeat" in told and "queued again 2 times (1 lost, 1 out of time)" in told
    lease.release()


def test_silence_and_damage_are_told_and_end_nothing(
    tmp_path: Path, plan: RunPlan, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    say(tmp_path, plan, "queued", "waits", silent_since=time.time() - 600, silence="Unable to contact slurm controller")
    assert main([str(tmp_path)]) == 0
    told = capsys.readouterr().out
    assert "queued" in told and "Slurm was asked in vain, first 10 min" in told and "Unable to contact" in told
    path = StudyDir(tmp_path).scheduler
    path.write_text(path.read_text().replace("waits", "works"))
    assert row(tmp_path, capsys)["status"] == "pending"
    assert "scheduler.json" in caplog.text and "left out" in caplog.text
