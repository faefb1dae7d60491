"""What a cluster's scheduler last said of a run that no process holds, and how old that is."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from scaling.readable import short_time
from scaling.records.attempts.causes import Cause
from scaling.records.attempts.ends import Ends
from scaling.records.run_dir import RunDir
from scaling.records.scheduler_word import RunWord, SchedulerWord
from scaling.records.study import RunRecord

INTERRUPTIONS = frozenset(
    {
        Cause.PREEMPTED,
        Cause.OUT_OF_TIME,
        Cause.LOST,
        Cause.OUT_OF_MEMORY,
        Cause.NODE_FAILED,
        Cause.MACHINE_TROUBLE,
    }
)
"""Ends after which a run is resumed."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """How a run that no process holds stands with its scheduler."""

    status: str
    """`queued`, `starting`, `lost`, or `submitted` a moment ago."""
    reason: str
    """In words, with who said it and how long ago."""


def load_word(folder: Path) -> SchedulerWord | None:
    """Of the study in a folder, or of the one that a run's folder lies in."""
    return SchedulerWord.load(folder.resolve().parent if RunDir(folder).plan.exists() else folder)


def word_of(record: RunRecord, word: SchedulerWord | None) -> RunWord | None:
    """What was said of a run, unless the run itself has spoken since: then that word is out of date."""
    said = word.runs.get(record.run_dir.name) if word is not None else None
    if said is None or record.standing.has_ended:
        return None
    signs = [end.unix_time for end in record.standing.ends.all] + [record.state.heartbeat_unix_time]
    return said if said.unix_time >= max(signs) or record.standing.is_alive else None


def waiting(said: RunWord, scheduler: str) -> Waiting:
    """The words for a run that no process holds."""
    source = f"{scheduler} said so {short_time(said.age_seconds())} ago"
    place = f" on {said.where}" if said.where else ""
    match said.phase:
        case "queued":
            job = f"{said.where.split()[-1]} " if said.where else ""
            return Waiting("queued", f"{job}{said.reason}; {source}")
        case "running":
            return Waiting("starting", f"started{place}, has not reported yet; {source}")
        case "unknown":
            return Waiting("submitted", f"{said.reason}; {source}")
        case _:
            return Waiting("lost", f"{said.reason or 'there is no job of it'}; {source}; launch the study again")


def requeues(ends: Ends, *, is_on_its_way: bool) -> Counter[Cause]:
    """Why a run was queued again, how often; `is_on_its_way`: it has been since its last end, or it has its result."""
    causes = [end.cause for end in ends.all if end.cause in INTERRUPTIONS]
    ended_so = bool(ends.all) and ends.all[-1].cause in INTERRUPTIONS
    return Counter(causes[:-1] if ended_so and not is_on_its_way else causes)


def requeues_text(causes: Counter[Cause]) -> str:
    """`queued again 3 times (2 preempted, 1 lost)`; empty for never."""
    if not causes:
        return ""
    total = sum(causes.values())
    parts = ", ".join(f"{count} {cause.value.replace('_', ' ')}" for cause, count in causes.most_common())
    return f"queued again {total} time{'s' if total > 1 else ''} ({parts})"
