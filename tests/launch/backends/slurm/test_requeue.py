"""Whether a job is queued again: the decision on values, without a Slurm."""

from datetime import datetime

import pytest

from scaling.launch.backends.slurm.queue import WHOLE_ARRAY, parse_queue
from scaling.launch.backends.slurm.requeue import Ending, JobView, queues_again, read_view, refine_cause
from scaling.records.attempts.causes import Cause, Decision, Verdict


def ending(view: JobView, elapsed: float = 100.0) -> Ending:
    return Ending(code=3, elapsed=elapsed, seconds=3600.0, save_before=120.0, view=view)


@pytest.mark.parametrize(
    ("state", "end_time", "view"),
    [
        ("RUNNING", "2026-11-25T20:44:05", "ours"),
        ("COMPLETING", "2026-11-25T20:43:49", "ended"),
        ("COMPLETING", "2026-11-25T20:44:05", "ended"),
        ("COMPLETING", "NONE", "requeued"),
        ("COMPLETING", "N/A", "requeued"),
        ("COMPLETING", "2026-11-25T20:54:00", "requeued"),
        ("PENDING", "N/A", "requeued"),
        ("REQUEUE_HOLD", "N/A", "requeued"),
        ("SUSPENDED", "2026-11-25T20:54:00", "ours"),
        ("CANCELLED", "2026-11-25T20:43:49", "ended"),
        ("", "", "unknown"),
    ],
)
def test_slurms_view_of_a_job(state: str, end_time: str, view: str) -> None:
    assert read_view(state, end_time, datetime(2026, 11, 25, 20, 44)) == view


@pytest.mark.parametrize(
    ("told", "end", "stop", "cause"),
    [
        (Cause.PREEMPTED, ending("ours"), None, Cause.PREEMPTED),
        (Cause.PREEMPTED, ending("ours", 3425.0), None, Cause.OUT_OF_TIME),
        (Cause.PREEMPTED, ending("ended"), None, Cause.CANCELLED),
        (Cause.LOST, ending("ended", 3601.0), None, Cause.OUT_OF_TIME),
        (Cause.LOST, ending("requeued"), None, Cause.PREEMPTED),
        (Cause.PREEMPTED, ending("ours"), Cause.PRUNED, Cause.PRUNED),
        (Cause.LOST, ending("ours"), None, Cause.LOST),
        (Cause.FAILED, ending("ended"), None, Cause.FAILED),
        (Cause.DIVERGED, ending("ended"), None, Cause.DIVERGED),
        (Cause.DONE, ending("ended"), Cause.CANCELLED, Cause.DONE),
    ],
)
def test_the_job_knows_more_than_an_exit_code(told: Cause, end: Ending, stop: Cause | None, cause: Cause) -> None:
    assert refine_cause(told, end, stop) is cause


@pytest.mark.parametrize("verdict", list(Verdict))
@pytest.mark.parametrize("view", ["ours", "ended", "requeued", "unknown"])
def test_only_a_run_that_is_ours_and_is_to_go_on_is_queued_again(verdict: Verdict, view: JobView) -> None:
    again = verdict in (Verdict.RETRY_FREE, Verdict.RETRY_COUNTED, Verdict.COME_BACK_LATER) and view != "requeued"
    decision = Decision(verdict, "")
    assert queues_again(decision, ending(view), is_ours=True) is again
    assert not queues_again(decision, ending(view), is_ours=False)


def test_what_squeue_prints_is_read_for_each_task() -> None:
    text = (
        "17|0-2,5%2|PENDING||N/A|scaling:s:aa|JobArrayTaskLimit\n"
        "17|3|RUNNING|n[1-2]|2026-11-25T20:44:05|scaling:s:aa|None\n"
        "18|N/A|CANCELLED||N/A|scaling:s:bb|None\n"
        "19|0|RUNNING|n1|N/A|scaling:other:cc|None\n"
    )
    tasks = parse_queue(text, "s")
    assert {key: task.phase for key, task in tasks.items()} == {
        **{("aa", index): "queued" for index in (0, 1, 2, 5)},
        ("aa", 3): "running",
        ("bb", WHOLE_ARRAY): "ended",
    }
    assert tasks["aa", 5].job == "17_5" and "waits for its turn" in tasks["aa", 5].explain()
