"""Where a run stands: the result first, then a living holder, then the last words; one answer for everybody."""

from pathlib import Path

import pytest

from scaling.launch.backends.base import next_step
from scaling.records.attempts.attempt import claim_attempt
from scaling.records.attempts.causes import Cause
from scaling.records.attempts.ends import End, append_end, forgive
from scaling.records.ownership.lease import Lease
from scaling.records.ownership.stop_request import request_stop
from scaling.records.result import RunResult
from scaling.records.run_dir import RunDir
from scaling.records.run_plan import EvalPlan, RunPlan
from scaling.records.standing import STATUS_AFTER, find_standing
from scaling.records.state import RunState, Status
from tests.support.run_plans import run_plan
from tests.support.scripted_backend import result_of
from tests.support.synthetic_study import evaluation_of

PLAN = run_plan()
SHOT = EvalPlan(kind="fewshot", name="fewshot")
SCORED = PLAN.model_copy(update={"evals": (SHOT,)})


def ended(run_dir: Path, cause: Cause, message: str = "why") -> None:
    """An attempt that stepped, and how it ended."""
    number = claim_attempt(run_dir).attempt
    RunState(status=Status.RUNNING, attempt=number, step=7).save(run_dir)
    append_end(run_dir, End(attempt=number, cause=cause, step=7, message=message))


def scored(run_dir: Path, result: RunResult, plan: RunPlan = SCORED) -> None:
    record = evaluation_of(plan, SHOT, {"fewshot/5shot_top1": 0.5}, "Test CPU")
    record.model_copy(update={"weights_sha256": result.weights_sha256}).save(run_dir)


def test_before_anything_happened(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "absent"):
        standing = find_standing(folder, PLAN)
        assert (standing.status, standing.reason, standing.has_ended) == (Status.PENDING, "", False)


@pytest.mark.parametrize("cause", list(Cause))
def test_the_last_end_tells_with_its_reason(cause: Cause, tmp_path: Path) -> None:
    """Whatever the state still says: the process may have died before it could save it."""
    ended(tmp_path, cause)
    standing = find_standing(tmp_path, PLAN)
    assert (standing.status, standing.reason, standing.is_alive) == (STATUS_AFTER[cause], "why", False)
    final = (Status.FAILED, Status.CANCELLED, Status.PRUNED)
    assert standing.has_ended == (standing.status in final)


def test_every_cause_stands_for_a_status() -> None:
    assert set(STATUS_AFTER) == set(Cause)


def test_a_result_wins_whatever_state_and_ends_say(tmp_path: Path) -> None:
    ended(tmp_path, Cause.LOST)
    request_stop(tmp_path, Cause.CANCELLED)
    result_of(PLAN).save(tmp_path)
    standing = find_standing(tmp_path, PLAN)
    assert (standing.status, standing.reason, standing.is_finished) == (Status.DONE, "", True)


def test_a_damaged_result_or_one_of_another_plan_is_a_failure_with_a_way_out(tmp_path: Path) -> None:
    ended(tmp_path, Cause.DONE)
    for damage in ("content", "plan"):
        result_of(PLAN if damage == "content" else run_plan(steps=99)).save(tmp_path)
        path = RunDir(tmp_path).result
        if damage == "content":
            path.write_text(path.read_text().replace("0.5", "0.6"))
        standing = find_standing(tmp_path, PLAN)
        assert standing.status is Status.FAILED and standing.result is None
        assert "result.json" in standing.reason and "remove the file" in standing.reason


def test_a_living_holder_is_a_running_run_and_the_same_run_is_lost_when_it_is_gone(tmp_path: Path) -> None:
    claim_attempt(tmp_path)
    RunState(status=Status.RUNNING, attempt=1, step=12).save(tmp_path)
    with Lease(tmp_path) as lease:
        assert lease.acquire()
        standing = find_standing(tmp_path, PLAN)
        assert (standing.status, standing.is_alive, standing.has_ended) == (Status.RUNNING, True, False)
        assert standing.reason.startswith("on ")
    standing = find_standing(tmp_path, PLAN)
    assert (standing.status, standing.is_alive) == (Status.PREEMPTED, False)
    assert "last sign of life at step 12" in standing.reason


def test_an_end_of_an_earlier_attempt_says_nothing_about_a_later_one(tmp_path: Path) -> None:
    ended(tmp_path, Cause.FAILED)
    claim_attempt(tmp_path)
    standing = find_standing(tmp_path, PLAN)
    assert standing.status is Status.PREEMPTED and "its process is gone" in standing.reason


def test_a_request_to_stop_is_told_before_the_run_has_left_a_word(tmp_path: Path) -> None:
    for cause, status in ((Cause.CANCELLED, Status.CANCELLED), (Cause.PRUNED, Status.PRUNED)):
        request_stop(tmp_path, cause)
        assert find_standing(tmp_path, PLAN).status is status


def test_a_run_whose_budget_is_used_up_has_failed_until_a_person_asks_again(tmp_path: Path) -> None:
    for _ in range(2):
        ended(tmp_path, Cause.LOST)
    assert not find_standing(tmp_path, PLAN).has_ended
    next_step(tmp_path, retries=1)
    standing = find_standing(tmp_path, PLAN)
    assert standing.status is Status.FAILED and "launch.retries = 1" in standing.reason
    forgive(tmp_path)
    assert (find_standing(tmp_path, PLAN).status, find_standing(tmp_path, PLAN).reason) == (
        Status.PREEMPTED,
        "asked for again",
    )


def test_a_trained_run_that_is_to_be_scored_is_done_but_not_finished(tmp_path: Path) -> None:
    result = result_of(PLAN)
    result.save(tmp_path)
    ended(tmp_path, Cause.PREEMPTED)
    standing = find_standing(tmp_path, SCORED)
    assert (standing.told, standing.missing_evals, standing.has_ended) == ("done, to be scored", ("fewshot",), False)
    with Lease(tmp_path) as lease:
        assert lease.acquire()
        assert find_standing(tmp_path, SCORED).told == "done, scoring"
    scored(tmp_path, result)
    assert find_standing(tmp_path, SCORED).is_finished
    other = SCORED.model_copy(update={"evals": (SHOT.model_copy(update={"settings": {"shots": [1]}}),)})
    assert find_standing(tmp_path, other).missing_evals == ("fewshot",), "a stale digest is no answer"


@pytest.mark.parametrize("cause", [Cause.FAILED, Cause.BAD_INPUT])
def test_a_scoring_that_failed_shows_its_reason_and_waits_for_a_person(cause: Cause, tmp_path: Path) -> None:
    result_of(PLAN).save(tmp_path)
    ended(tmp_path, cause, "the support images are gone")
    standing = find_standing(tmp_path, SCORED)
    assert (standing.told, standing.reason) == ("done, scoring failed", "the support images are gone")
    assert standing.has_ended and standing.status is Status.DONE
    forgive(tmp_path)
    assert find_standing(tmp_path, SCORED).told == "done, to be scored"


def test_a_queued_run_names_its_job_until_it_starts(tmp_path: Path) -> None:
    RunState(status=Status.QUEUED, job="17_0").save(tmp_path)
    assert (find_standing(tmp_path, PLAN).status, find_standing(tmp_path, PLAN).reason) == (Status.QUEUED, "job 17_0")
    ended(tmp_path, Cause.PREEMPTED)
    assert find_standing(tmp_path, PLAN).status is Status.PREEMPTED


def test_a_damaged_state_is_told_from_the_ends(tmp_path: Path) -> None:
    ended(tmp_path, Cause.FAILED)
    RunDir(tmp_path).state.write_bytes(b"\0" * 40)
    standing = find_standing(tmp_path, PLAN)
    assert (standing.status, standing.reason, standing.state.step) == (Status.FAILED, "why", 7)
