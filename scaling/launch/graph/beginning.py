"""What a study begins with: its runs, or the trials of its search, from which its runs follow.

A pure function of the records of trials decides what follows from them (`scaling.plan.search.searches`); here that
becomes a `FollowUp` of the graph of runs, which may lead to further trials and a follow-up on those in turn.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from scaling.launch.graph.study_graph import Derived, FollowUp
from scaling.launch.study_dir import PlannedRun, find_standings
from scaling.plan.planner import Planner
from scaling.plan.search.searches import Cell, StudySearch
from scaling.records.run_plan import RunPlan
from scaling.records.standing import Standing
from scaling.records.state import Status
from scaling.records.study import RunRecord, load_run
from scaling.spec.document import Document
from scaling.spec.study import Study


@dataclass(frozen=True, slots=True)
class Beginning:
    """The runs that wait for nothing, and what follows from them."""

    runs: tuple[RunPlan, ...]
    follow_ups: tuple[FollowUp, ...]
    search: StudySearch | None
    """None for a study that searches nothing."""

    @classmethod
    def of(cls, study: Study, document: Document, planner: Planner) -> "Beginning":
        """Plans what can be planned before anything was trained."""
        if study.tune is None:
            return cls(tuple(planner.plan()), (), None)
        search = StudySearch(study, document, planner)
        trials = search.trials()
        follow_ups = [follow_up(search, cell, trials[cell.text]) for cell in search.cells]
        return cls(tuple(run for cell in search.cells for run in trials[cell.text]), tuple(follow_ups), search)

    def foresee(self, study_dir: Path) -> list[PlannedRun]:
        """All runs of the study as they stand, and nothing written: trials, what follows from them where all of a cell
        have ended, and stand-ins for trials and final runs whose values are not known yet."""
        if self.search is None:
            return find_standings(study_dir, self.runs)
        found: list[PlannedRun] = []
        for cell in self.search.cells:
            first = [run for run in self.runs if run.trial is not None and run.trial.cell == cell.values]
            found += _foresee_cell(study_dir, self.search, cell, first)
        return found


def follow_up(search: StudySearch, cell: Cell, trials: Sequence[RunPlan]) -> FollowUp:
    """What follows when these runs, all trials so far of a cell, have ended."""
    run_ids = tuple(run.run_id for run in trials)

    def derive(records: Mapping[str, RunRecord]) -> Derived:
        step = search.next_step(cell, records)
        judged = tuple(run_id for run_id, record in records.items() if is_judged(record.standing))
        then = (follow_up(search, cell, [*trials, *step.trials]),) if step.trials else ()
        return Derived(step.trials + step.finals, then, (step.note,), answered=judged)

    return FollowUp(f"the runs of {cell.text}", run_ids, derive, foreseen=tuple(search.stand_ins(cell, trials)))


def _foresee_cell(study_dir: Path, search: StudySearch, cell: Cell, first: Sequence[RunPlan]) -> list[PlannedRun]:
    known = find_standings(study_dir, first)
    while all(run.standing.has_ended for run in known):
        step = search.next_step(cell, {run.plan.run_id: load_run(run.run_dir) for run in known})
        if not step.trials:
            return [*known, *find_standings(study_dir, step.finals)]
        known += find_standings(study_dir, step.trials)
    return [*known, *find_standings(study_dir, search.stand_ins(cell, [run.plan for run in known]))]


def is_judged(standing: Standing) -> bool:
    """Whether a trial without a result has answered its search: it diverged, or was stopped because
    others do better."""
    return standing.status is Status.PRUNED or standing.has_diverged
