"""The launcher's loop, driven by a scripted backend: starts, retries, gives up, leaves finished runs alone.

The real local backend is tested end to end in test_local_study.py.
"""

from collections import deque
from pathlib import Path

import pytest

from scaling.launch.backends.base import Ended
from scaling.launch.study_dir import find_standings, write_study
from scaling.launch.watch import Watch
from scaling.records.exit_codes import BUSY, DONE, FAILED
from scaling.records.result import RunResult
from scaling.records.run_plan import EvalPlan, RunPlan
from scaling.records.state import RunState
from scaling.spec.document import Document
from tests.support.run_plans import run_plan


def result_of(plan: RunPlan) -> RunResult:
    return RunResult(
        run_id=plan.run_id,
        identity=plan.identity,
        attempts=1,
        metrics={"upstream/precision_at_1": 0.5},
        best_step=1,
        steps=plan.schedule.steps,
        examples_seen=1,
        unique_examples=1,
        flops=1.0,
        train_seconds=1.0,
        pause_seconds=0.0,
        device_hours=1.0,
        images_per_second=1.0,
        device="cpu",
        num_devices=1,
        precision="fp32",
        threads=1,
        hardware={},
        packages={},
        git_commit="",
        git_dirty=False,
    )


class ScriptedBackend:
    """Plays a list of exit codes per run; a run that ends with 0 leaves its result, one with 1 its error."""

    threads_per_process = 1
    num_slots = 2

    def __init__(self, script: dict[str, list[int]]) -> None:
        self._script = {name: deque(codes) for name, codes in script.items()}
        self._running: list[Path] = []
        self.started: list[str] = []
        self.most_at_once = 0

    def has_room(self) -> bool:
        return len(self._running) < self.num_slots

    def start(self, run_dir: Path) -> None:
        self.started.append(run_dir.name)
        self._running.append(run_dir)
        self.most_at_once = max(self.most_at_once, len(self._running))

    def poll(self) -> list[Ended]:
        ended = []
        for run_dir in self._running:
            code = self._script[run_dir.name].popleft()
            if code == DONE:
                result_of(RunPlan.load(run_dir)).save(run_dir)
            RunState(status={DONE: "done", FAILED: "failed"}.get(code, "running"), attempt=1).save(run_dir)
            ended.append(Ended(run_dir, code))
        self._running = []
        return ended

    def stop(self) -> None:
        self._running = []


@pytest.fixture
def plans() -> list[RunPlan]:
    return [run_plan(seed=seed) for seed in range(4)]


def watch(study_dir: Path, plans: list[RunPlan], script: dict[str, list[int]], retries: int = 2) -> ScriptedBackend:
    write_study(study_dir, Document(study_dir / "sweep.yaml", {"study": "test"}), plans)
    backend = ScriptedBackend(script)
    Watch(backend, find_standings(study_dir, plans), retries).run()
    return backend


def standings(study_dir: Path, plans: list[RunPlan]) -> list[str]:
    return [run.standing for run in find_standings(study_dir, plans)]


def test_every_run_is_started_once_and_never_more_than_there_is_room(tmp_path: Path, plans: list[RunPlan]) -> None:
    backend = watch(tmp_path, plans, {plan.run_id: [DONE] for plan in plans})
    assert sorted(backend.started) == sorted(plan.run_id for plan in plans)
    assert backend.most_at_once == 2
    assert standings(tmp_path, plans) == ["done"] * 4


def test_a_second_launch_starts_nothing_and_a_deleted_run_only_itself(tmp_path: Path, plans: list[RunPlan]) -> None:
    watch(tmp_path, plans, {plan.run_id: [DONE] for plan in plans})
    assert watch(tmp_path, plans, {}).started == []
    lost = tmp_path / plans[2].run_id
    for path in lost.iterdir():
        path.unlink()
    lost.rmdir()
    assert watch(tmp_path, plans, {plans[2].run_id: [DONE]}).started == [plans[2].run_id]


def test_a_killed_process_is_retried_and_a_reported_error_is_not(tmp_path: Path, plans: list[RunPlan]) -> None:
    script = {plan.run_id: [DONE] for plan in plans}
    script[plans[0].run_id] = [-9, -9, DONE]
    script[plans[1].run_id] = [FAILED]
    backend = watch(tmp_path, plans, script)
    assert backend.started.count(plans[0].run_id) == 3
    assert backend.started.count(plans[1].run_id) == 1
    assert standings(tmp_path, plans) == ["done", "failed", "done", "done"]


def test_a_run_lost_at_every_retry_fails_with_the_cause(tmp_path: Path, plans: list[RunPlan]) -> None:
    script = {plan.run_id: [DONE] for plan in plans} | {plans[0].run_id: [-9, -9, -9]}
    watch(tmp_path, plans, script)
    run = find_standings(tmp_path, plans)[0]
    assert run.standing == "failed"
    assert "signal 9" in run.state.error


def test_a_run_held_by_another_process_is_left_alone(tmp_path: Path, plans: list[RunPlan]) -> None:
    script = {plan.run_id: [DONE] for plan in plans} | {plans[0].run_id: [BUSY]}
    backend = watch(tmp_path, plans, script)
    assert backend.started.count(plans[0].run_id) == 1


def test_new_evaluations_reopen_a_finished_run_and_settings_of_execution_do_not(
    tmp_path: Path, plans: list[RunPlan]
) -> None:
    watch(tmp_path, plans, {plan.run_id: [DONE] for plan in plans})
    moved = [plan.model_copy(update={"engine": plan.engine.model_copy(update={"threads": 9})}) for plan in plans]
    assert standings(tmp_path, moved) == ["done"] * 4
    asked = [plan.model_copy(update={"evals": (EvalPlan(kind="throughput", name="throughput"),)}) for plan in plans]
    assert standings(tmp_path, asked) == ["evaluate"] * 4
