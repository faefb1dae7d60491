"""What a back end does with a run whose attempt ended: the one policy of `scaling.records`, and its last word."""

from pathlib import Path

from scaling.records.attempts.causes import Cause, Decision, Verdict, decide
from scaling.records.attempts.ends import read_ends
from scaling.records.ownership.stop_request import requested_stop
from scaling.records.state import RunState, Status

TELLING = (Cause.DONE, Cause.FAILED, Cause.DIVERGED, Cause.BAD_INPUT, Cause.CANCELLED, Cause.PRUNED)
"""Ends that say by themselves where the run stands."""

AGAIN = (Verdict.RETRY_FREE, Verdict.RETRY_COUNTED)


def next_step(run_dir: Path, retries: int) -> Decision:
    """What follows from the ends of a run; one that is given up is recorded as failed, with the reason.

    A run with a request to stop is given up whatever its ends say.
    """
    ends = read_ends(run_dir).counted
    decision = decide(ends, retries)
    if decision.verdict in AGAIN and requested_stop(run_dir):
        return Decision(Verdict.GIVE_UP, "was asked to stop")
    if decision.verdict is Verdict.GIVE_UP and ends and ends[-1].cause not in TELLING:
        state = RunState.load(run_dir)
        state.model_copy(update={"status": Status.FAILED, "error": decision.reason}).save(run_dir)
    return decision
