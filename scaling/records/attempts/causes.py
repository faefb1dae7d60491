"""Why an attempt at a run ended, and what follows from it: one policy for every backend.

The budget of `launch.retries` is counted from the attempts' ends alone, so it is the same after a restart of the
launcher and on every backend. Pre-emption and time limits never use it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from scaling.records.attempts import contract

if TYPE_CHECKING:
    from scaling.records.attempts.ends import End


class Cause(StrEnum):
    """How an attempt ended."""

    DONE = "done"
    PREEMPTED = "preempted"
    """Asked to leave (a scheduler, Ctrl-C, a launcher that disappeared); a checkpoint was saved."""
    OUT_OF_TIME = "out_of_time"
    """The scheduler's time limit."""
    LOST = "lost"
    """A process died without saying why, or stayed silent."""
    OUT_OF_MEMORY = "out_of_memory"
    NODE_FAILED = "node_failed"
    """The scheduler reports that a node is gone."""
    MACHINE_TROUBLE = "machine_trouble"
    """A GPU cannot be initialised, the processes do not meet, storage stays away: another machine may do."""
    CANCELLED = "cancelled"
    """A person stopped the run."""
    PRUNED = "pruned"
    """A search stopped the run because others do better."""
    FAILED = "failed"
    """An error of the run itself, which the same inputs would meet again."""
    DIVERGED = "diverged"
    """Loss or gradient were no longer numbers: a failure, and for a search over rates an answer."""
    BAD_INPUT = "bad_input"
    BUSY = "busy"
    """Another process holds the run; this one wrote nothing."""


class Verdict(StrEnum):
    """What to do with a run after its last end."""

    RETRY_FREE = "retry_free"
    """Start it again; the budget is untouched."""
    RETRY_COUNTED = "retry_counted"
    """Start it again; the budget has paid for it."""
    GIVE_UP = "give_up"
    COME_BACK_LATER = "come_back_later"
    """Another process has it: look again, and start nothing while that one lives."""
    FINISHED = "finished"


@dataclass(frozen=True, slots=True)
class Decision:
    verdict: Verdict
    reason: str
    """One sentence for people."""
    avoid_hosts: tuple[str, ...] = ()
    """Machines on which the run met trouble of theirs. A scheduler takes others; where there is one machine alone, the
    run waits there for `delay_seconds` and takes another GPU, and launchers of other machines may have it at once."""
    delay_seconds: float = 0.0
    """How long to wait before the run is started again."""


MORE_MEMORY = "take micro_batch: auto or a smaller one and fewer loader_threads, or give the run more memory"
"""The way out for a run that ran out of memory."""

COUNTED = frozenset({Cause.LOST, Cause.NODE_FAILED, Cause.MACHINE_TROUBLE, Cause.OUT_OF_MEMORY})

MEMORY_RETRIES = 1
"""Memory may have been taken by a neighbour once; a second time it is the run's own need."""

CHURN_ENDS, CHURN_SHARE = 3, 0.05
"""So many time limits in a row with less than this share of the time in training steps: the limit is too short."""

FIRST_DELAY_SECONDS, LONGEST_DELAY_SECONDS = 15.0, 600.0
"""Wait after trouble of a machine; doubles with each."""

_WORDS = {
    Cause.PREEMPTED: "was asked to leave",
    Cause.OUT_OF_TIME: "reached its time limit",
    Cause.LOST: "lost a process",
    Cause.OUT_OF_MEMORY: "ran out of memory",
    Cause.NODE_FAILED: "lost a node",
    Cause.MACHINE_TROUBLE: "met trouble of its machine",
    Cause.CANCELLED: "was cancelled",
    Cause.PRUNED: "was stopped by the search",
    Cause.FAILED: "failed",
    Cause.DIVERGED: "diverged",
    Cause.BAD_INPUT: "was given bad input",
    Cause.BUSY: "is held by another process",
    Cause.DONE: "is done",
}


def decide(ends: Sequence["End"], retries: int) -> Decision:
    """What follows from the ends of a run's attempts, oldest first (`Ends.counted`); `retries` is the study's budget.

    Pure. Without any end the run has yet to be started: RETRY_FREE.
    """
    if not ends:
        return Decision(Verdict.RETRY_FREE, "never started")
    last = ends[-1]
    told = _WORDS[last.cause] + (f": {last.message}" if last.message else "")
    match last.cause:
        case Cause.DONE:
            return Decision(Verdict.FINISHED, told)
        case Cause.BUSY:
            return Decision(Verdict.COME_BACK_LATER, told)
        case Cause.PREEMPTED:
            return Decision(Verdict.RETRY_FREE, told)
        case Cause.OUT_OF_TIME:
            return _out_of_time(ends, told)
        case Cause.CANCELLED | Cause.PRUNED | Cause.FAILED | Cause.DIVERGED | Cause.BAD_INPUT:
            return Decision(Verdict.GIVE_UP, told)
        case _:
            return _counted(ends, retries, told)


def cause_of_exit(code: int | None) -> Cause:
    """What an exit code says by itself; a backend that knows more (a time limit, a dead node) says that instead.

    Negative codes, and those above 128, are deaths by a signal; None is a process that vanished.
    """
    return {
        contract.DONE: Cause.DONE,
        contract.FAILED: Cause.FAILED,
        contract.BAD_INPUT: Cause.BAD_INPUT,
        contract.PREEMPTED: Cause.PREEMPTED,
        contract.BUSY: Cause.BUSY,
        contract.LOST_PARTNER: Cause.LOST,
        contract.MACHINE_TROUBLE: Cause.MACHINE_TROUBLE,
        contract.OUT_OF_MEMORY: Cause.OUT_OF_MEMORY,
    }.get(-1 if code is None else code, Cause.LOST)


def _counted(ends: Sequence["End"], retries: int, told: str) -> Decision:
    """Within the budget: once more, elsewhere and later where the machine was at fault."""
    last = ends[-1]
    num_counted = sum(end.cause in COUNTED for end in ends)
    if num_counted > retries:
        return Decision(Verdict.GIVE_UP, f"{told} (attempt budget used up: launch.retries = {retries})")
    if last.cause is Cause.OUT_OF_MEMORY and sum(end.cause is last.cause for end in ends) > MEMORY_RETRIES:
        # A process that could still speak has named the way out itself.
        return Decision(Verdict.GIVE_UP, told if MORE_MEMORY in told else f"{told}; {MORE_MEMORY}")
    troubles = [end for end in ends if end.cause in (Cause.MACHINE_TROUBLE, Cause.NODE_FAILED)]
    delay = 0.0
    if last.cause is Cause.MACHINE_TROUBLE:
        delay = min(FIRST_DELAY_SECONDS * 2 ** (len(troubles) - 1), LONGEST_DELAY_SECONDS)
    hosts = tuple(dict.fromkeys(end.host for end in troubles if end.host))
    return Decision(Verdict.RETRY_COUNTED, f"{told} ({num_counted} of {retries} retries)", hosts, delay)


def _out_of_time(ends: Sequence["End"], told: str) -> Decision:
    """Free, unless the limit is so short that attempts hardly train."""
    recent = ends[-CHURN_ENDS:]
    if len(recent) == CHURN_ENDS and all(end.cause is Cause.OUT_OF_TIME for end in recent):
        seconds, trained = sum(end.seconds for end in recent), sum(end.train_seconds for end in recent)
        if len({end.step for end in recent}) == 1 or (seconds and trained < CHURN_SHARE * seconds):
            return Decision(
                Verdict.GIVE_UP,
                f"reached its time limit {CHURN_ENDS} times in a row with {trained:.0f} of {seconds:.0f} s in training "
                "steps; raise the time limit",
            )
    return Decision(Verdict.RETRY_FREE, told)
