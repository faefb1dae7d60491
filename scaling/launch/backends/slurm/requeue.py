"""Whether a job is queued again after an attempt at its run ended: a decision on values, taken beside the job.

What the attempt's exit code leaves open is read off Slurm's view of the job at that moment:

    running               the job is ours: we decide
    completing, with a    somebody ended the job: at its time limit Slurm did, before that a person did (scancel), and a
    past time of its end  job that queued itself again would undo that
    completing, without,  Slurm has queued the job again itself: pre-empted, or its node is gone. An end that is still
    or with a later one   to come is that of the next start, for which the scheduler has already found room
    queued                the same, or a controller that died seconds after the start has forgotten it

The budget is `scaling.records.attempts.causes.decide`, from the run's ends alone.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from scaling.launch.backends.slurm.queue import QUEUED_STATES, RUNNING_STATES
from scaling.records.attempts.causes import Cause, Decision, Verdict

JobView = Literal["ours", "ended", "requeued", "unknown"]

EARLY_SECONDS, EARLY_SHARE = 60.0, 0.25
"""Slurm sends the signal before a time limit up to a minute earlier than asked (sbatch --signal). Of a limit of a few
minutes only a quarter counts as that, so that other requests to leave are not taken for it."""


CLOCKS_APART = timedelta(seconds=20)
"""Of a node and Slurm's controller, at most. Slurm's shortest time limit is a minute."""


@dataclass(frozen=True, slots=True)
class Ending:
    """The end of one job's `srun`, as seen from beside it."""

    code: int
    """Highest exit code of its tasks; above 128 a death by a signal."""
    elapsed: float
    """Seconds since the job started."""
    seconds: float
    """Its time limit."""
    save_before: float
    """How long before it the run is asked to save, seconds."""
    view: JobView


def read_view(state: str, end_time: str, now: datetime) -> JobView:
    """The view from squeue's `%T` and `%e`, the latter in Slurm's standard form and the time zone of `now`."""
    if state in QUEUED_STATES:
        return "requeued"
    if state != "COMPLETING":
        return "ours" if state in RUNNING_STATES else "ended" if state else "unknown"
    try:
        end = datetime.fromisoformat(end_time)
    except ValueError:  # N/A, NONE, Unknown
        return "requeued"
    return "requeued" if end > now + CLOCKS_APART else "ended"


def refine_cause(told: Cause, ending: Ending, stop: Cause | None) -> Cause:
    """What the attempt's own word or exit code `told`, with what only the job knows; `stop`: the run's stop request."""
    if told in (Cause.DONE, Cause.FAILED, Cause.DIVERGED, Cause.BAD_INPUT, Cause.BUSY, Cause.PRUNED):
        return told
    if stop is not None:
        return stop
    if ending.view == "ended":
        return Cause.OUT_OF_TIME if ending.elapsed >= ending.seconds - 1 else Cause.CANCELLED
    if ending.view == "requeued":
        return Cause.PREEMPTED
    early = min(EARLY_SECONDS, EARLY_SHARE * ending.seconds)
    if told is Cause.PREEMPTED and ending.elapsed >= ending.seconds - ending.save_before - early:
        return Cause.OUT_OF_TIME
    return told


def queues_again(decision: Decision, ending: Ending, *, is_ours: bool) -> bool:
    """Whether this job asks Slurm to queue it again. `is_ours`: the run still belongs to this job's batch."""
    if ending.view == "requeued" or not is_ours:
        return False
    return decision.verdict in (Verdict.RETRY_FREE, Verdict.RETRY_COUNTED, Verdict.COME_BACK_LATER)
