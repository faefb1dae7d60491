"""Where one run stands, from Slurm's record of its task and from the run directory."""

from pathlib import Path

from scaling.launch.backends.base import AGAIN, TELLING, Look
from scaling.launch.backends.slurm.batch import ArrayJob, batch_of
from scaling.launch.backends.slurm.hung import Heartbeat
from scaling.launch.backends.slurm.queue import QueuedTask
from scaling.records.attempts.attempt import latest_number
from scaling.records.attempts.causes import Cause, decide
from scaling.records.attempts.ends import read_ends, settle_end
from scaling.records.ownership.stop_request import request_stop, requested_stop
from scaling.records.run_dir import RunDir

NAMED_AFTER_SECONDS = 300.0
"""A running job whose run has not reported for so long is named as hung."""

CAUSES = {
    "TIMEOUT": Cause.OUT_OF_TIME,
    "DEADLINE": Cause.OUT_OF_TIME,
    "PREEMPTED": Cause.PREEMPTED,
    "NODE_FAIL": Cause.NODE_FAILED,
    "BOOT_FAIL": Cause.NODE_FAILED,
    "OUT_OF_MEMORY": Cause.OUT_OF_MEMORY,
    "CANCELLED": Cause.CANCELLED,
}
"""Slurm's final state -> why an attempt ended that could not say so itself; any other state is a lost process."""


class Looker:
    """Remembers heartbeats from one query to the next; all else is read anew."""

    def __init__(self, hung_after: float | None) -> None:
        self._hung_after = hung_after
        self._heartbeats: dict[Path, Heartbeat] = {}

    def look(self, run_dir: Path, batch: ArrayJob, task: QueuedTask | None, siblings: bool) -> Look:
        """`task` is what Slurm knows of the run, None when it answered and knows nothing; `siblings` tells whether
        it knows other tasks of the batch."""
        if task is None:
            self._heartbeats.pop(run_dir, None)
            return _missing(run_dir, batch, siblings)
        where = f"{task.nodes} {task.job}".strip()
        if task.phase == "running":
            hung = self._hung(run_dir)
            return Look("running", reason=hung, where=where, is_stuck=bool(hung))
        self._heartbeats.pop(run_dir, None)
        if task.phase == "queued":
            return Look("queued", reason=task.explain(), where=where, is_stuck=task.is_stuck)
        cause = _ended(run_dir, task)
        if cause is None:
            return Look("gone", reason="asked for again", where=where)
        # A job that Slurm ended before it could queue itself again: whoever launches the study submits it anew.
        is_over = decide(read_ends(run_dir).counted, batch.retries).verdict not in AGAIN or cause in TELLING
        return Look("ended" if is_over else "gone", cause=cause, reason=task.state, where=where)

    def _hung(self, run_dir: Path) -> str:
        heartbeat = self._heartbeats.setdefault(run_dir, Heartbeat(run_dir))
        still = heartbeat.still_seconds()
        if still < (self._hung_after or NAMED_AFTER_SECONDS):
            return ""
        act = "it is being queued again" if self._hung_after else "set launch.slurm.hung_after to have it queued again"
        return f"hangs: Slurm calls it running, but its heartbeat has stood still for {still:.0f} s; {act}"


def _missing(run_dir: Path, batch: ArrayJob, siblings: bool) -> Look:
    """A run without a record in Slurm."""
    if batch.refused:
        return Look("gone", reason=batch.refused)
    if batch.may_be_on_its_way:
        return Look("unknown", reason="handed to Slurm a moment ago")
    is_marked = requested_stop(run_dir) is not None or batch_of(run_dir) is not None
    if siblings and is_marked and latest_number(run_dir) == 0 and not read_ends(run_dir).all:
        # Slurm keeps no record of a task that was taken out of a waiting array.
        _mark_cancelled(run_dir)
        return Look("ended", cause=requested_stop(run_dir) or Cause.CANCELLED, reason="CANCELLED before it started")
    return Look("gone", reason="Slurm has no record of it any more")


def _mark_cancelled(run_dir: Path) -> None:
    """A person used scancel: the run shall stay away as if it had been cancelled by the launcher."""
    if requested_stop(run_dir) is None:
        request_stop(run_dir, Cause.CANCELLED)
    # What is noted once must not be noted again after a person has asked for the run again.
    RunDir(run_dir).job.unlink(missing_ok=True)


def _ended(run_dir: Path, task: QueuedTask) -> Cause | None:
    """Why the run's last attempt ended, noted here where nobody was left beside the job to do it; None when a person
    has asked for the run again since."""
    if RunDir(run_dir).result.exists():
        return Cause.DONE
    ends = read_ends(run_dir)
    own = [end for end in ends.all if end.job.partition("/")[0] == task.job]
    if own and own[-1] not in ends.counted:
        return None
    # A run that was cancelled saves and calls it a pre-emption, unless `job after` had the time to look.
    if own and (task.state != "CANCELLED" or own[-1].cause in TELLING):
        return own[-1].cause
    cause = CAUSES.get(task.state, Cause.LOST)
    if cause is Cause.CANCELLED:
        if batch_of(run_dir) is None and requested_stop(run_dir) is None:
            return None
        _mark_cancelled(run_dir)
        cause = requested_stop(run_dir) or cause
        if latest_number(run_dir) == 0:
            return cause  # It never started, so there is no end to note.
    return settle_end(run_dir, None, cause=cause, job=task.job, message=f"Slurm says {task.state}").cause
