"""Where the time of a study went, by its records: every attempt is cut at the moments that its log tells.

A row of the log is written when something is done, so the time since the row before it was spent on that. Only
checkpoints are written beside the steps: their rows tell for how long training stood still. Runs share the machine: a
second of one of two that run side by side counts as half a second of the study.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from scaling.records.attempts.attempt import Attempt, load_attempt
from scaling.records.attempts.ends import read_ends
from scaling.records.events import Event, read_events
from scaling.records.run_dir import RunDir, StudyDir

STEPS = "steps"
START = "start of the launcher"
BEGINNING, WAITING, EDGES = "start of each run", "waiting for images", "between steps"
VALIDATION, CHECKPOINTS, RESULT = "validation", "checkpoints", "end of each run"
IDLE, THROUGHPUT, REPORT = "idle places", "throughput of each model", "report"


@dataclass(frozen=True, slots=True)
class Phase:
    """A span of one attempt, between Unix times, and what it was spent on, in seconds by part."""

    pid: int
    begin: float
    end: float
    parts: dict[str, float]


@dataclass(frozen=True, slots=True)
class Runs:
    """All attempts of a study that ended."""

    phases: tuple[Phase, ...]
    begin: float
    end: float
    num_places: int
    """How many ran side by side, at most."""

    @property
    def pids(self) -> set[int]:
        return {phase.pid for phase in self.phases}

    def wall_seconds(self) -> dict[str, float]:
        """By part; with idle places they add up to the time from the first attempt's start to the last one's end."""
        sums: dict[str, float] = defaultdict(float)
        for phase in self.phases:
            for part, seconds in phase.parts.items():
                sums[part] += seconds / self.num_places
        return dict(sums) | {IDLE: max(0.0, self.end - self.begin - sum(sums.values()))}


def read_runs(study_dir: Path) -> Runs:
    """What the records of a study say about its time; ValueError when no attempt of it has ended."""
    attempts = [list(phases) for run in StudyDir(study_dir).run_dirs() for phases in _attempts(run)]
    spans = [(phases[0].begin, phases[-1].end) for phases in attempts if phases]
    if not spans:
        raise ValueError(f"{study_dir}: no attempt has ended")
    return Runs(
        tuple(phase for phases in attempts for phase in phases),
        min(begin for begin, _ in spans),
        max(end for _, end in spans),
        _most_at_once(spans),
    )


def _attempts(run: RunDir) -> Iterator[Iterator[Phase]]:
    events = read_events(run.events).events
    for end in read_ends(run.path).all:
        if end.attempt:
            attempt = load_attempt(run.path, end.attempt)
            own = [event for event in events if event.attempt == attempt.attempt]
            yield _phases(attempt, own, end.unix_time)


def _phases(attempt: Attempt, events: Sequence[Event], end: float) -> Iterator[Phase]:
    before, train_seconds = attempt.unix_time, events[0].train_seconds if events else 0.0
    stops: dict[int, float] = defaultdict(float)
    for event in events:
        if event.kind == "checkpoint":
            stops[event.step] += event.metrics.get("stop_seconds", 0.0)
    for event in events:
        if event.kind == "checkpoint":
            continue
        seconds, part = event.unix_time - before, _part_of(event)
        parts = {part: seconds}
        if part == STEPS:
            steps = event.train_seconds - train_seconds
            waiting = event.metrics.get("data_wait_seconds", 0.0)
            parts = {STEPS: steps, WAITING: waiting, EDGES: seconds - steps - waiting}
            train_seconds, part = event.train_seconds, EDGES
        # A step's checkpoint comes after its own row and its validation.
        latest = event.step - 1 if part in (BEGINNING, EDGES, VALIDATION) else event.step
        if stopped := sum(stops.pop(step) for step in list(stops) if step <= latest):
            parts |= {CHECKPOINTS: stopped, part: parts[part] - stopped}
        yield Phase(attempt.pid, before, event.unix_time, parts)
        before = event.unix_time
    yield Phase(attempt.pid, before, end, {RESULT: end - before})


def _part_of(event: Event) -> str:
    """What an attempt did before it wrote this row."""
    if event.kind == "eval":
        # The row of an evaluation of the kept weights bears its name.
        name = next(iter(event.metrics), "").partition("/")[0]
        return VALIDATION if name == "upstream" and "upstream/precision_at_1" in event.metrics else f"scoring: {name}"
    return {"start": BEGINNING, "step": STEPS}.get(event.kind, RESULT)


def _most_at_once(spans: Sequence[tuple[float, float]]) -> int:
    # An attempt that ends as the next one starts has left its place.
    edges = sorted([(begin, 1) for begin, _ in spans] + [(end, -1) for _, end in spans])
    most = now = 0
    for _, change in edges:
        now += change
        most = max(most, now)
    return most
