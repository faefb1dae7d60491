"""The launcher's loop, driven by a scripted back end: starts, retries, gives up, leaves finished runs alone, waits for
runs of others and takes them over.

The real local back end is tested end to end in test_local_study.py.
"""

import logging
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from scaling.launch.command import _retry
from scaling.launch.graph.study_graph import StudyGraph
from scaling.launch.study_dir import find_standings, write_study
from scaling.launch.watch import Watch
from scaling.records.attempts.causes import Cause
from scaling.records.attempts.contract import DONE, FAILED, PREEMPTED
from scaling.records.attempts.ends import forgive, read_ends
from scaling.records.ownership.lease import Lease
from scaling.records.ownership.stop_request import request_stop
from scaling.records.run_plan import EvalPlan, RunPlan
from scaling.records.state import RunState, Status
from scaling.spec.document import Document
from tests.support.run_plans import run_plan
from tests.support.scripted_backend import ScriptedBackend, result_of


@pytest.fixture
def plans() -> list[RunPlan]:
    return [run_plan(seed=seed) for seed in range(4)]


def written(study_dir: Path, plans: Sequence[RunPlan]) -> StudyGraph:
    write_study(study_dir, Document(study_dir / "sweep.yaml", {"study": "test"}), plans)
    return StudyGraph(study_dir, find_standings(study_dir, plans))


def watch(study_dir: Path, plans: Sequence[RunPlan], script: dict[str, list[int]], retries: int = 2) -> ScriptedBackend:
    backend = ScriptedBackend(script, retries)
    Watch(backend, written(study_dir, plans), study_dir, cap=None, retries=retries).run()
    return backend


def told(study_dir: Path, plans: Sequence[RunPlan]) -> list[str]:
    return [run.standing.told for run in find_standings(study_dir, plans)]


def test_every_run_is_started_once_and_never_more_than_there_is_room(tmp_path: Path, plans: list[RunPlan]) -> None:
    backend = watch(tmp_path, plans, {plan.run_id: [DONE] for plan in plans})
    assert sorted(backend.started) == sorted(plan.run_id for plan in plans)
    assert backend.most_at_once == 2
    assert told(tmp_path, plans) == ["done"] * 4
    assert backend.closed == [False]


def test_other_settings_of_a_started_run_are_told_once_with_what_becomes_of_them(
    tmp_path: Path, plans: list[RunPlan], caplog: pytest.LogCaptureFixture
) -> None:
    done, half, running, waiting = plans
    written(tmp_path, plans)
    result_of(done).save(tmp_path / done.run_id)
    RunState(status=Status.PREEMPTED, attempt=1, step=3).save(tmp_path / half.run_id)
    lease = Lease(tmp_path / running.run_id)
    lease.acquire()
    try:
        with caplog.at_level(logging.WARNING):
            written(tmp_path, plans)
            assert not caplog.messages
            engine = done.engine.model_copy(update={"compile": True, "max_corrupt": 5, "num_devices": 2})
            intervals = done.intervals.model_copy(update={"log_steps": done.intervals.log_steps + 1})
            others = [plan.model_copy(update={"engine": engine, "intervals": intervals}) for plan in plans]
            written(tmp_path, others)
    finally:
        lease.release()
    [told] = caplog.messages
    assert "(compile, data.max_corrupt, launch.devices_per_run, log_every)" in told
    assert "1 of the runs are trained already and keep" in told
    assert "1 of the runs are trained in part with the former and continue with the new ones" in told
    assert "1 of the runs are at work and keep" in told
    # What is told is what has happened.
    kept = [RunPlan.load(tmp_path / plan.run_id).engine == plan.engine for plan in (done, half, running, waiting)]
    assert kept == [True, False, True, False]


def test_a_second_launch_starts_nothing_and_a_deleted_run_only_itself(tmp_path: Path, plans: list[RunPlan]) -> None:
    watch(tmp_path, plans, {plan.run_id: [DONE] for plan in plans})
    assert watch(tmp_path, plans, {}).started == []
    lost = tmp_path / plans[2].run_id
    for path in sorted(lost.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    lost.rmdir()
    assert watch(tmp_path, plans, {plans[2].run_id: [DONE]}).started == [plans[2].run_id]


def test_a_killed_process_is_retried_and_a_reported_error_is_not(tmp_path: Path, plans: list[RunPlan]) -> None:
    script = {plan.run_id: [DONE] for plan in plans}
    script[plans[0].run_id] = [-9, -9, DONE]
    script[plans[1].run_id] = [FAILED]
    backend = watch(tmp_path, plans, script)
    assert backend.started.count(plans[0].run_id) == 3
    assert backend.started.count(plans[1].run_id) == 1
    assert told(tmp_path, plans) == ["done", "failed", "done", "done"]


def test_a_run_lost_at_every_retry_fails_with_the_cause(tmp_path: Path, plans: list[RunPlan]) -> None:
    watch(tmp_path, plans, {plan.run_id: [DONE] for plan in plans} | {plans[0].run_id: [-9, -9, -9]})
    run = find_standings(tmp_path, plans)[0]
    assert run.standing.told == "failed"
    assert "lost a process" in run.standing.reason and "launch.retries = 2" in run.standing.reason


def test_pre_emption_uses_up_no_retries(tmp_path: Path, plans: list[RunPlan]) -> None:
    script = {plans[0].run_id: [PREEMPTED] * 10 + [-9, *[PREEMPTED] * 10, DONE]}
    watch(tmp_path, plans[:1], script, retries=1)
    assert told(tmp_path, plans[:1]) == ["done"]
    assert [end.cause for end in read_ends(tmp_path / plans[0].run_id).all].count(Cause.PREEMPTED) == 20


def test_runs_that_ended_are_left_alone_until_a_person_asks(tmp_path: Path, plans: list[RunPlan]) -> None:
    watch(tmp_path, plans[:2], {plans[0].run_id: [FAILED], plans[1].run_id: [DONE]})
    written(tmp_path, plans)
    request_stop(tmp_path / plans[2].run_id, Cause.CANCELLED)
    backend = watch(tmp_path, plans, {plans[3].run_id: [DONE]})
    assert backend.started == [plans[3].run_id]
    assert told(tmp_path, plans) == ["failed", "done", "cancelled", "done"]
    forgive(tmp_path / plans[0].run_id)
    assert watch(tmp_path, plans[:1], {plans[0].run_id: [DONE]}).started == [plans[0].run_id]


def test_a_failed_scoring_is_left_alone_until_it_is_asked_for_again(tmp_path: Path, plans: list[RunPlan]) -> None:
    """What `--retry-failed` does with a trained run whose evaluation ended with an error."""
    watch(tmp_path, plans[:1], {plans[0].run_id: [DONE]})
    scored = [plans[0].model_copy(update={"evals": (EvalPlan(kind="fewshot", name="fewshot"),)})]
    assert watch(tmp_path, scored, {plans[0].run_id: [FAILED]}).started == [plans[0].run_id]
    assert told(tmp_path, scored) == ["done, scoring failed"]
    assert find_standings(tmp_path, scored)[0].standing.reason == "code 1"
    assert watch(tmp_path, scored, {}).started == []
    (again,) = (_retry(run) for run in find_standings(tmp_path, scored))
    assert again.standing.told == "done, to be scored"
    assert watch(tmp_path, scored, {plans[0].run_id: [FAILED]}).started == [plans[0].run_id]


def test_a_run_of_another_process_is_waited_for_and_taken_over_when_that_is_gone(
    tmp_path: Path, plans: list[RunPlan]
) -> None:
    graph = written(tmp_path, plans)
    leases = [Lease(tmp_path / plan.run_id) for plan in plans[:2]]
    assert all(lease.acquire() for lease in leases)
    graph = StudyGraph(tmp_path, find_standings(tmp_path, plans))
    backend = ScriptedBackend({plan.run_id: [DONE] for plan in plans[1:]}, retries=0)
    done = threading.Thread(target=Watch(backend, graph, tmp_path, cap=None, retries=0).run)
    done.start()
    time.sleep(0.5)
    assert set(backend.submitted) == {plan.run_id for plan in plans[2:]}
    result_of(plans[0]).save(tmp_path / plans[0].run_id)  # One ends well, the other's process is gone.
    for lease in leases:
        lease.release()
    done.join(timeout=20)
    assert not done.is_alive()
    assert set(backend.submitted) == {plan.run_id for plan in plans[1:]}
    assert told(tmp_path, plans) == ["done"] * 4


def test_new_evaluations_reopen_a_finished_run_and_touch_no_more_of_its_plan(
    tmp_path: Path, plans: list[RunPlan]
) -> None:
    watch(tmp_path, plans, {plan.run_id: [DONE] for plan in plans})
    before = [RunPlan.load(tmp_path / plan.run_id) for plan in plans]
    moved = [plan.model_copy(update={"engine": plan.engine.model_copy(update={"num_devices": 8})}) for plan in plans]
    evals = (EvalPlan(kind="throughput", name="throughput"),)
    asked = [plan.model_copy(update={"evals": evals}) for plan in moved]
    assert told(tmp_path, moved) == ["done"] * 4
    assert told(tmp_path, asked) == ["done, to be scored"] * 4
    written(tmp_path, asked)
    after = [RunPlan.load(tmp_path / plan.run_id) for plan in plans]
    assert after == [plan.model_copy(update={"evals": evals}) for plan in before]
