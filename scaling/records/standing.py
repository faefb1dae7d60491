"""Where a run stands: one answer for launcher, watch, status and analysis.

The result wins, whatever the state says: a process killed right after writing it has done its work. Then a living
lease: the run is running. Then the last words: how the last attempt ended, a request to stop, or what the state says.
"""

from dataclasses import dataclass
from pathlib import Path

from scaling.errors import printable
from scaling.records.attempts.attempt import latest_number
from scaling.records.attempts.causes import Cause
from scaling.records.attempts.ends import Ends, read_ends
from scaling.records.evaluation import current_evaluations
from scaling.records.ownership.lease import LifeWatch, look
from scaling.records.ownership.stop_request import requested_stop
from scaling.records.reading import RecordError
from scaling.records.result import RunResult
from scaling.records.run_plan import RunPlan
from scaling.records.state import RunState, Status

STATUS_AFTER: dict[Cause, Status] = {
    Cause.DONE: Status.PREEMPTED,  # Without its result; with it nobody asks.
    Cause.PREEMPTED: Status.PREEMPTED,
    Cause.OUT_OF_TIME: Status.PREEMPTED,
    Cause.LOST: Status.PREEMPTED,
    Cause.NODE_FAILED: Status.PREEMPTED,
    Cause.MACHINE_TROUBLE: Status.PREEMPTED,
    Cause.OUT_OF_MEMORY: Status.PREEMPTED,
    Cause.BUSY: Status.PREEMPTED,
    Cause.CANCELLED: Status.CANCELLED,
    Cause.PRUNED: Status.PRUNED,
    Cause.FAILED: Status.FAILED,
    Cause.DIVERGED: Status.FAILED,
    Cause.BAD_INPUT: Status.FAILED,
}
"""What a run is after an attempt ended so, as long as nobody has given it up."""


@dataclass(frozen=True, slots=True)
class Standing:
    """One run's place between planned and done."""

    status: Status
    """Of its training."""
    reason: str
    """Why it is not done: the error, how its last attempt ended, where it runs. Empty when there is nothing to say."""
    is_alive: bool
    """Whether a process holds the run now; also while a trained one is scored."""
    missing_evals: tuple[str, ...]
    """Planned evaluations of its kept weights that a trained run has no current record of; those that other runs make
    are these runs' business."""
    evaluation_failed: bool
    """Whether the last attempt to score a trained run ended with an error, which `reason` tells."""
    state: RunState
    ends: Ends
    result: RunResult | None
    damage: str = ""
    """What is wrong with a result that does not count, and the way out; empty where there is none, or a sound one."""

    @property
    def is_finished(self) -> bool:
        """Trained and fully scored: nothing to do."""
        return self.status is Status.DONE and not self.missing_evals

    @property
    def has_ended(self) -> bool:
        """Whether nothing will happen to the run unless a person asks: finished, failed, cancelled or pruned."""
        return not self.is_alive and (
            self.is_finished
            or self.evaluation_failed
            or self.status in (Status.FAILED, Status.CANCELLED, Status.PRUNED)
        )

    @property
    def has_diverged(self) -> bool:
        """Whether the run ended because loss or gradient were no longer numbers, as the same settings would again: an
        answer, unlike a lost machine, a bad image or a person who stopped it."""
        last = self.ends.last
        return self.status is Status.FAILED and last is not None and last.cause is Cause.DIVERGED

    @property
    def told(self) -> str:
        """The status in words, with what is being done to a trained run."""
        if self.status is not Status.DONE or not self.missing_evals:
            return self.status.value
        if self.is_alive:
            return "done, scoring"
        return "done, scoring failed" if self.evaluation_failed else "done, to be scored"


def find_standing(run_dir: Path, plan: RunPlan | None = None, watch: LifeWatch | None = None) -> Standing:
    """Where the run in `run_dir` stands; `plan` says what is asked of it now, `watch` what an observer has seen.

    Reads small files only and writes nothing. The folder need not exist. A result that is damaged, or is not of this
    plan, is reported in `reason` and does not count.
    """
    is_alive = (watch or LifeWatch()).is_alive(run_dir)
    state, ends = RunState.load(run_dir), read_ends(run_dir)
    damage = ""
    try:
        result = RunResult.load(run_dir, plan)
    except RecordError as error:
        result, damage = None, f"{error}; remove the file and launch the study again"
    last_status, last_reason = _last_words(run_dir, state, ends)
    missing: tuple[str, ...] = ()
    evaluation_failed = False
    if result is not None:
        status, reason = Status.DONE, ""
        evals = plan.evals if plan is not None else ()
        current = current_evaluations(run_dir, result, evals)
        missing = tuple(asked.name for asked in evals if asked.by == "scoring" and asked.name not in current)
        if missing and not is_alive and last_status is Status.FAILED:
            evaluation_failed, reason = True, last_reason
    elif is_alive:
        sighting = look(run_dir)
        status = Status.RUNNING
        reason = f"on {sighting.holder.host}, process {sighting.holder.pid}" if sighting else ""
    elif damage:
        status, reason = Status.FAILED, damage
    else:
        asked_to_stop = requested_stop(run_dir)
        status, reason = (STATUS_AFTER[asked_to_stop], "") if asked_to_stop else (last_status, last_reason)
    return Standing(status, printable(reason), is_alive, missing, evaluation_failed, state, ends, result, damage)


def _last_words(run_dir: Path, state: RunState, ends: Ends) -> tuple[Status, str]:
    """What ends and state say of a run that has no result and that nobody holds."""
    last, number = ends.last, latest_number(run_dir)
    if state.status is Status.QUEUED and state.attempt >= number:
        return Status.QUEUED, f"job {state.job}" if state.job else ""
    if ends.is_forgiven:
        return (Status.PREEMPTED if number else Status.PENDING), "asked for again"
    if last is not None and last.attempt in (0, number):
        if state.status is Status.FAILED and state.attempt >= number:
            return Status.FAILED, state.error or last.message
        return STATUS_AFTER[last.cause], last.message
    if state.attempt < number or state.status is Status.RUNNING:
        return Status.PREEMPTED, f"its process is gone; last sign of life at step {state.step}"
    if state.status is Status.DONE:
        return Status.PREEMPTED, "state.json says done but result.json is missing"
    return state.status, state.error
