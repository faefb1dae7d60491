"""The searches of a study: which trials each cell has, and what its final runs are once the trials have ended.

Pure, as all of planning: trials follow from the sweep, what comes next from the sweep and the records of the trials. So
a launcher that starts again finds the same trials, the same best and the same final runs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from scaling.errors import UserError
from scaling.plan.planner import Planner
from scaling.plan.search.checks import SearchChecks
from scaling.plan.search.space import Values, as_lists, extended, grid_values, random_values
from scaling.records.files import canonical_json
from scaling.records.run_plan import RunPlan
from scaling.records.scores.rungs import rung_steps
from scaling.records.scores.search import Trial, best_of, cell_text, edges_of, trials_of, value_text, values_text
from scaling.records.scores.search_plan import ChoicePlan, Space, TrialPlan
from scaling.records.study import RunRecord
from scaling.spec.document import Document
from scaling.spec.study import Study
from scaling.spec.sweep import RunSpec, expand, value_of, with_values
from scaling.spec.tune import TuneSpec

UNCHOSEN = "?" * 8
"""In place of the identity at the end of the name of a run whose values are still to be found."""


@dataclass(frozen=True, slots=True)
class Cell:
    """Final runs that share a search."""

    values: dict[str, Any]
    """Of the settings in `per`, as plain JSON."""
    finals: tuple[RunSpec, ...]
    """Without what is searched."""
    trial: RunSpec
    """What all trials have in common."""

    @property
    def text(self) -> str:
        return cell_text(self.values)


@dataclass(frozen=True, slots=True)
class NextStep:
    """What follows when all trials so far of a cell have ended."""

    trials: tuple[RunPlan, ...] = ()
    """Further ones, beyond an edge."""
    finals: tuple[RunPlan, ...] = ()
    note: str = ""
    """What was chosen and why, in a sentence."""


class StudySearch:
    """The section `tune` of a study, with its cells."""

    def __init__(self, study: Study, document: Document, planner: Planner) -> None:
        """UserError for names that do not fit the study, and for seeds that are not held apart."""
        assert study.tune is not None
        self._study, self._document, self._planner = study, document, planner
        self._tune: TuneSpec = study.tune
        specs = expand(study, document)
        self._checks = SearchChecks(study, document)
        self._checks.check_names()
        self._checks.check_scheduler()
        self._checks.check_seeds(specs)
        self._evals = self._checks.evals_of_trials(planner.evals)
        space = {name: searched.model_dump(exclude_none=True) for name, searched in self._tune.space.items()}
        self._space: Space = as_lists(space) if self._tune.search == "grid" else _without_points(space)
        self.cells = self._cut(specs)

    def trials(self) -> dict[str, tuple[RunPlan, ...]]:
        """The first trials of every cell, by its text."""
        plans, specs = [], []
        for cell in self.cells:
            for number, values in enumerate(self._first_values(cell)):
                place = TrialPlan(
                    cell=cell.values,
                    number=number,
                    values=values,
                    space=self._space,
                    search=self._tune.search,
                    metric=self._tune.metric,
                )
                for spec in self._trial_specs(cell, values):
                    plans.append(place)
                    specs.append(spec)
        runs = [self._as_trial(plan, place) for plan, place in zip(self._planner.plan_specs(specs), plans, strict=True)]
        self._checks.refuse_twins(runs)
        self._checks.check_rungs(runs)
        return {
            cell.text: tuple(run for run in runs if run.trial is not None and run.trial.cell == cell.values)
            for cell in self.cells
        }

    def next_step(self, cell: Cell, records: Mapping[str, RunRecord]) -> NextStep:
        """What follows from the records of all trials so far of a cell; none of them is still to be waited for."""
        trials = trials_of(records.values())
        best = best_of(trials)
        if best is None:
            problems = "; ".join(dict.fromkeys(trial.problem for trial in trials))
            return NextStep(
                note=f"{cell.text}: none of {len(trials)} trials has a score, so its {len(cell.finals)} final runs "
                f"are not planned ({problems})"
            )
        edges = edges_of(best, trials)
        stopped = ""
        if edges and trials[-1].plan.round < self._tune.extend:
            try:
                further = self._further(cell, trials, best)
                sides = " and ".join(f"{side} end of {name}" for name, side in edges.items())
                note = f"{cell.text}: the best trial lies at the {sides}; {len(further)} more runs search beyond it"
                return NextStep(trials=further, note=note)
            except UserError as error:
                stopped = f"; the search cannot go beyond it ({error})"
        choice = ChoicePlan(
            cell=cell.values,
            metric=self._tune.metric,
            number=best.plan.number,
            values=best.plan.values,
            at_edge=edges,
            trials=tuple(trial.as_score() for trial in trials),
        )
        specs = [
            with_values(spec, self._study, self._document, choice.values, ("tune", "space")) for spec in cell.finals
        ]
        finals = [plan.model_copy(update={"choice": choice}) for plan in self._planner.plan_specs(specs)]
        return NextStep(finals=tuple(finals), note=choice_text(cell.text, choice) + stopped)

    def stand_ins(self, cell: Cell) -> list[RunPlan]:
        """The final runs of a cell whose values are not chosen yet, with those of its most expensive trial: their
        number and cost are known, their identity is not."""
        candidates = [self._trial_specs(cell, values)[0] for values in self._first_values(cell)]
        plans = self._planner.plan_specs(candidates)
        costs = [plan.schedule.steps * plan.schedule.batch * plan.model.flops_train_per_image for plan in plans]
        values = self._first_values(cell)[costs.index(max(costs))]
        specs = [with_values(spec, self._study, self._document, values, ("tune", "space")) for spec in cell.finals]
        return [
            plan.model_copy(update={"run_id": f"{plan.run_id[:-8]}{UNCHOSEN}"})
            for plan in self._planner.plan_specs(specs)
        ]

    def is_answered(self, runs: Sequence[RunPlan]) -> bool:
        """Whether every cell has its final runs among these."""
        chosen = {canonical_json(run.choice.cell) for run in runs if run.choice is not None}
        return all(canonical_json(cell.values) in chosen for cell in self.cells)

    def _first_values(self, cell: Cell) -> list[Values]:
        if self._tune.search == "grid":
            return grid_values(self._space)
        assert self._tune.num_trials is not None
        found = random_values(self._space, self._tune.num_trials, self._tune.seed, cell.values)
        if len(found) < self._tune.num_trials:
            raise self._document.error(
                ("tune", "num_trials"),
                f"{self._tune.num_trials:,} trials, but random draws found {len(found)} different values; lower it, or "
                "write search: grid to try every one",
            )
        return found

    def _further(self, cell: Cell, trials: Sequence[Trial], best: Trial) -> tuple[RunPlan, ...]:
        """Trials beyond the edges that the best one lies at, half as many as the first ones of a random search."""
        round_ = trials[-1].plan.round + 1
        whole, parts = extended(trials[-1].plan.space, self._space, best.plan.values, edges_of(best, trials))
        taken = [trial.plan.values for trial in trials]
        for index, part in enumerate(parts):
            if self._tune.search == "grid":
                taken += grid_values(part, taken)
            else:
                assert self._tune.num_trials is not None
                count = -(-self._tune.num_trials // (2 * len(parts)))
                key = round_ * len(self._space) + index
                taken += random_values(part, count, self._tune.seed, cell.values, key=key, taken=taken)
        runs = []
        for number, values in enumerate(taken[len(trials) :], len(trials)):
            place = trials[-1].plan.model_copy(
                update={"number": number, "values": values, "space": whole, "round": round_}
            )
            specs = self._trial_specs(cell, values)
            runs += [self._as_trial(plan, place) for plan in self._planner.plan_specs(specs)]
        self._checks.check_rungs([*(record.plan for trial in trials for record in trial.records), *runs])
        return tuple(runs)

    def _trial_specs(self, cell: Cell, values: Values) -> list[RunSpec]:
        """One run for each seed of the search."""
        place = ("tune", "space")
        spec = with_values(cell.trial, self._study, self._document, values, place)
        axes = {name: value for name, value in spec.axes.items() if name not in self._tune.set} | values
        return [
            replace(with_values(spec, self._study, self._document, {"seed": seed}, place), axes=axes)
            for seed in self._tune.seeds
        ]

    def _as_trial(self, plan: RunPlan, place: TrialPlan) -> RunPlan:
        if self._tune.scheduler == "asha":
            rungs = rung_steps(
                self._tune.grace_period,
                self._tune.reduction_factor,
                plan.intervals.validate_steps,
                plan.schedule.steps,
            )
            place = place.model_copy(update={"rungs": rungs, "reduction_factor": self._tune.reduction_factor})
        return plan.model_copy(update={"trial": place, "evals": self._evals})

    def _cut(self, specs: Sequence[RunSpec]) -> list[Cell]:
        """The study's runs by the values of `per`; UserError where the runs of a cell differ in more than that."""
        groups: dict[str, list[RunSpec]] = {}
        for spec in specs:
            groups.setdefault(canonical_json(self._key(spec)), []).append(spec)
        cells = []
        for group in groups.values():
            trials = [with_values(spec, self._study, self._document, self._tune.set, ("tune", "set")) for spec in group]
            self._checks.check_alike(self._key(group[0]), trials)
            cells.append(Cell(self._key(group[0]), tuple(group), trials[0]))
        return cells

    def _key(self, spec: RunSpec) -> dict[str, Any]:
        return {name: value_of(spec, name) for name in self._tune.per}


def choice_text(cell: str, choice: ChoicePlan) -> str:
    """What was chosen, from how many trials, and what there is to doubt about it, in a sentence."""
    chosen = next(trial for trial in choice.trials if trial.number == choice.number)
    text = f"{cell}: {values_text(choice.values)}"
    text += f" ({choice.metric} {chosen.score:.4g}, best of {len(choice.trials)} trials)"
    num_stopped = sum(trial.stopped_step is not None for trial in choice.trials)
    if num_stopped:
        text += f"; {num_stopped} of them stopped early"
    without = [trial for trial in choice.trials if trial.score is None and trial.stopped_step is None]
    if without:
        text += f"; {len(without)} without a score: " + "; ".join(dict.fromkeys(trial.problem for trial in without))
    if choice.at_edge:
        sides = " and ".join(
            f"no trial went {'above' if side == 'high' else 'below'} {name} {value_text(choice.values[name])}"
            for name, side in choice.at_edge.items()
        )
        text += f"; {sides}, so a better value may lie there: a larger tune.extend searches on"
    return text


def _without_points(space: Space) -> Space:
    return {
        name: {kind: value for kind, value in searched.items() if kind != "points"} for name, searched in space.items()
    }
