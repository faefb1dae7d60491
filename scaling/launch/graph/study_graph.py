"""A study as a graph of runs: which may start now, and which follow from what has ended.

The watching loop asks a source what is `ready` and tells it what has `ended`. Most studies are a list of runs that wait
for nothing. A `FollowUp` is "when these runs have ended, these follow": it waits for runs by id and derives plans from
their records by a pure function, so that a launcher that starts again finds the same plans and trains nothing twice. A
search per cell, fine-tuning with a chosen rate and evaluation jobs are follow-ups; what they plan are ordinary runs.
What they find about an earlier run becomes a record of an evaluation of that run.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from scaling.errors import UserError
from scaling.launch.graph.referee import Referee
from scaling.launch.study_dir import PlannedRun, find_standings, write_run
from scaling.records.evaluation import Evaluation
from scaling.records.reading import RecordError
from scaling.records.run_plan import RunPlan
from scaling.records.study import RunRecord, load_plan_order, load_run, save_plan_order


@dataclass(frozen=True, slots=True)
class Derived:
    """What follows from ended runs."""

    plans: tuple[RunPlan, ...] = ()
    follow_ups: "tuple[FollowUp, ...]" = ()
    """What follows from those in turn; may wait for the runs of `plans`."""
    notes: tuple[str, ...] = ()
    """Sentences for people: what was chosen and why, what could not follow."""
    records: tuple[Evaluation, ...] = ()
    """What was found about runs of the study, or about the weights that all of them start from."""
    answered: tuple[str, ...] = ()
    """Ids of failed runs whose failure is an answer (a rate at which training diverged): no failure of the study."""


@dataclass(frozen=True, slots=True)
class FollowUp:
    """When these runs have ended, these follow."""

    name: str
    """For people: `fine-tuning of mixer-b/32 at 10 %`."""
    after: tuple[str, ...]
    """Run ids; all have ended, well or not, before `derive` is asked."""
    derive: Callable[[Mapping[str, RunRecord]], Derived]
    """A pure function of the records of those runs, by id; which of them failed is for it to judge."""
    foreseen: tuple[RunPlan, ...] = ()
    """Runs like those that will follow, in turn too, for the price of a study before they can be planned."""


class RunSource(Protocol):
    """What the watching loop takes its runs from."""

    def ready(self) -> list[PlannedRun]:
        """Runs that may be submitted now, their folders written; each is given once."""

    def ended(self, run: PlannedRun) -> None:
        """A run that was given has ended, well or not."""

    def runs(self) -> list[PlannedRun]:
        """All runs known so far, finished ones too, as they stood when last heard of."""

    def notes(self) -> list[str]:
        """What there is to tell people since this was last asked."""

    def to_stop(self) -> list[Path]:
        """Folders of runs that have not ended and whose further training is of no use; each until it has ended."""

    def foreseen(self) -> list[RunPlan]:
        """Runs like those that are not planned yet and will be; they are never submitted."""


class StudyGraph:
    """The runs of a study and what follows from them; implements `RunSource`."""

    def __init__(
        self,
        study_dir: Path,
        runs: Sequence[PlannedRun],
        follow_ups: Sequence[FollowUp] = (),
        *,
        after_each: Callable[[RunPlan], Sequence[FollowUp]] = lambda plan: (),
        adopt: Callable[[PlannedRun], PlannedRun] = lambda run: run,
    ) -> None:
        """`runs` as they stand, their folders written. `after_each` says what follows a single run, for `runs` and for
        those that follow; `adopt` is done to every further run that is found."""
        self._study_dir, self._adopt, self._after_each = study_dir, adopt, after_each
        self._runs = {run.plan.run_id: run for run in runs}
        self.answered: set[str] = set()
        """Ids of failed runs whose failure somebody wanted to know."""
        self._given: set[str] = set()
        self._waiting = [*follow_ups, *(one for run in runs for one in after_each(run.plan))]
        self._notes: list[str] = []
        self._referee = Referee()
        self._derive()

    def ready(self) -> list[PlannedRun]:
        found = [
            run
            for run_id, run in self._runs.items()
            if run_id not in self._given and (run.standing.is_alive or not run.standing.has_ended)
        ]
        self._given |= {run.plan.run_id for run in found}
        return found

    def ended(self, run: PlannedRun) -> None:
        self._runs[run.plan.run_id] = run
        self._derive()

    def runs(self) -> list[PlannedRun]:
        return list(self._runs.values())

    def notes(self) -> list[str]:
        told, self._notes = self._notes, []
        return told

    def to_stop(self) -> list[Path]:
        return self._referee.to_stop(self._runs.values())

    @property
    def waiting(self) -> tuple[FollowUp, ...]:
        """What is still to follow from runs that have not ended."""
        return tuple(self._waiting)

    def foreseen(self) -> list[RunPlan]:
        return [plan for one in self._waiting for plan in one.foreseen]

    def _derive(self) -> None:
        """Plan whatever follows from runs that have all ended, until nothing more does."""
        while True:
            due = [one for one in self._waiting if all(self._has_ended(run_id, one) for run_id in one.after)]
            if not due:
                return
            self._waiting = [one for one in self._waiting if one not in due]
            for one in due:
                self._add(one)

    def _has_ended(self, run_id: str, follow_up: FollowUp) -> bool:
        if run_id not in self._runs:
            raise UserError(f"{follow_up.name} waits for {run_id}, which is no run of the study; plan that run as well")
        return self._runs[run_id].standing.has_ended

    def _add(self, follow_up: FollowUp) -> None:
        derived = follow_up.derive({run_id: load_run(self._runs[run_id].run_dir) for run_id in follow_up.after})
        new = [plan for plan in derived.plans if plan.run_id not in self._runs]
        for plan in new:
            write_run(self._study_dir, plan)
        for run in find_standings(self._study_dir, new):
            self._runs[run.plan.run_id] = self._adopt(run)
            self._waiting += self._after_each(run.plan)
        self._waiting += derived.follow_ups
        self._notes += derived.notes
        self.answered |= set(derived.answered)
        for record in derived.records:
            self._save(record)
        if new:
            # Of a study that is scored in part, the graph knows a part of the runs.
            known = load_plan_order(self._study_dir) or []
            save_plan_order(self._study_dir, [*known, *(run_id for run_id in self._runs if run_id not in known)])

    def _save(self, record: Evaluation) -> None:
        """Write a record, unless the one that is there says the same; only launchers write such records. One about
        weights that no run of the study has trained belongs to the folder as a whole."""
        run = self._runs.get(record.run_id)
        run_dir = run.run_dir if run is not None else self._study_dir
        try:
            known = Evaluation.load(run_dir, record.name)
        except RecordError:
            known = None
        if known is None or known.model_copy(update={"unix_time": record.unix_time}) != record:
            record.save(run_dir)
