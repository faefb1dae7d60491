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
from scaling.plan.search.suggest import Told, require_optuna, suggested_values
from scaling.records.files import canonical_json
from scaling.records.run_plan import RunPlan
from scaling.records.scores.metrics import known_facts
from scaling.records.scores.rungs import rung_steps
from scaling.records.scores.search import Trial, best_of, cell_text, edges_of, trials_of, value_text, values_text
from scaling.records.scores.search_plan import ChoicePlan, Space, TrialPlan
from scaling.records.study import RunRecord
from scaling.spec.document import Document
from scaling.spec.study import Study
from scaling.spec.sweep import RunSpec, value_of, with_values
from scaling.spec.tune import STARTUP_TRIALS, TuneSpec

UNCHOSEN = "?" * 8
"""In place of the identity at the end of the name of a run whose values are still to be found."""

PLACE = ("tune", "space")
"""Where a sweep says what the values of trials are drawn from."""


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
    """Further ones: suggested from those that have ended, or beyond an edge."""
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
        specs = planner.specs
        self._checks = SearchChecks(study, document)
        self._checks.check_names()
        self._checks.check_scheduler()
        self._checks.check_seeds(specs)
        if self._tune.search == "optuna":
            require_optuna()
        self._evals = self._checks.evals_of_trials(planner.evals)
        space = {name: searched.model_dump(exclude_none=True) for name, searched in self._tune.space.items()}
        self._space: Space = as_lists(space) if self._tune.search == "grid" else _without_points(space)
        self.cells = self._cut(specs)
        if self._tune.search == "optuna":
            self._check_corners()

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
        if damage := next((record.standing.damage for record in records.values() if record.standing.damage), ""):
            # Without that score another trial could be the best one, and the final runs would not be those of before.
            return NextStep(note=f"{cell.text}: nothing is chosen while the result of a trial is damaged ({damage})")
        trials = trials_of(records.values())
        best = best_of(trials)
        if best is None:
            problems = "; ".join(dict.fromkeys(trial.problem for trial in trials))
            return NextStep(
                note=f"{cell.text}: none of {len(trials)} trials has a score, so its {len(cell.finals)} final runs "
                f"are not planned ({problems})"
            )
        edges, stopped = edges_of(best, trials), ""
        try:
            suggested = self._suggested(cell, trials)
        except UserError as error:
            suggested, stopped = (), f"; the search ends before what was suggested next ({error})"
        if suggested:
            note = f"{cell.text}: {len(suggested)} more runs, suggested from {len(trials)} trials"
            return NextStep(trials=suggested, note=note)
        if edges and not stopped and trials[-1].plan.round < self._tune.extend:
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
        specs = [with_values(spec, self._study, self._document, choice.values, PLACE) for spec in cell.finals]
        finals = [plan.model_copy(update={"choice": choice}) for plan in self._planner.plan_specs(specs)]
        return NextStep(finals=tuple(finals), note=choice_text(cell.text, choice) + stopped)

    def stand_ins(self, cell: Cell, known: Sequence[RunPlan]) -> list[RunPlan]:
        """The runs of a cell that cannot be planned yet, given its `known` trials: those that will be suggested, and
        its final runs. All have the most expensive values: their number is known and what they cost at most, their
        identity is not."""
        values = self._dearest_values(cell, known)
        latest = max((run.trial for run in known if run.trial is not None), key=lambda trial: trial.number)
        in_round = {run.trial.number for run in known if run.trial is not None and run.trial.round == latest.round}
        num_lacking = max(0, self._num_wanted(latest.round) - len(in_round))
        trials = self._planner.plan_specs(self._trial_specs(cell, values, is_named=False)) if num_lacking else []
        finals = [with_values(spec, self._study, self._document, values, PLACE) for spec in cell.finals]
        runs = [
            self._as_trial(plan, latest.model_copy(update={"number": latest.number + 1 + step, "values": values}))
            for step in range(num_lacking)
            for plan in trials
        ]
        return [
            plan.model_copy(update={"run_id": f"{plan.run_id[:-8]}{UNCHOSEN}"})
            for plan in (*runs, *self._planner.plan_specs(finals))
        ]

    def _dearest_values(self, cell: Cell, known: Sequence[RunPlan]) -> Values:
        """Those of the trial that costs most; where more will be suggested, with the dearest end of every range."""
        costs = {canonical_json(run.trial.values): (_cost(run), run.trial.values) for run in known if run.trial}
        best, values = max(costs.values(), key=lambda pair: pair[0])
        if self._tune.search != "optuna":
            return values
        for name, searched in self._space.items():
            (options,) = searched.values()
            for option in options:
                tried = values | {name: option}
                cost = _cost(self._planner.plan_one(self._trial_specs(cell, tried, is_named=False)[0]))
                if cost > best:
                    best, values = cost, tried
        return values

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
        return found[:STARTUP_TRIALS] if self._tune.search == "optuna" else found

    def _num_wanted(self, round_: int) -> int:
        """Trials of each cell in a round of `search: optuna`, the last of them suggested; 0 for other searches, which
        suggest none."""
        if self._tune.search != "optuna":
            return 0
        assert self._tune.num_trials is not None
        return self._tune.num_trials if round_ == 0 else -(-self._tune.num_trials // 2)

    def _suggested(self, cell: Cell, trials: Sequence[Trial]) -> tuple[RunPlan, ...]:
        """The next trials of a round that `search: optuna` has not completed; none where the space holds no more.

        A trial that was lost is passed over; where it is started again (`--retry-failed`) and has a score, what comes
        after it is suggested anew.
        """
        latest = trials[-1].plan
        lacking = self._num_wanted(latest.round) - sum(trial.plan.round == latest.round for trial in trials)
        if lacking <= 0:
            return ()
        values = suggested_values(
            latest.space,
            min(self._tune.max_concurrent, lacking),
            self._tune.seed,
            cell.values,
            [_told(trial) for trial in trials],
            higher_is_better=bool(known_facts(self._tune.metric).higher_is_better),
        )
        return self._more(cell, trials, values, latest)

    def _check_corners(self) -> None:
        """UserError where a run cannot have a value that may be suggested later: the ends of a range, any of a list."""
        for cell in self.cells:
            for name, searched in self._space.items():
                (values,) = searched.values()
                for value in values:
                    with_values(cell.trial, self._study, self._document, {name: value}, PLACE)

    def _further(self, cell: Cell, trials: Sequence[Trial], best: Trial) -> tuple[RunPlan, ...]:
        """Trials beyond the edges that the best one lies at, half as many as the first ones of a random search; of
        `search: optuna` as many as are suggested at a time, which the others of the round follow."""
        round_ = trials[-1].plan.round + 1
        whole, parts = extended(trials[-1].plan.space, self._space, best.plan.values, edges_of(best, trials))
        taken = [trial.plan.values for trial in trials]
        for index, part in enumerate(parts):
            if self._tune.search == "grid":
                taken += grid_values(part, taken)
            else:
                assert self._tune.num_trials is not None
                wanted = -(-self._tune.num_trials // 2)
                if self._tune.search == "optuna":
                    wanted = min(self._tune.max_concurrent, wanted)
                key = round_ * len(self._space) + index
                count = -(-wanted // len(parts))
                taken += random_values(part, count, self._tune.seed, cell.values, key=key, taken=taken)
        place = trials[-1].plan.model_copy(update={"space": whole, "round": round_})
        return self._more(cell, trials, taken[len(trials) :], place)

    def _more(
        self, cell: Cell, trials: Sequence[Trial], further: Sequence[Values], like: TrialPlan
    ) -> tuple[RunPlan, ...]:
        """Trials with these values, which follow those of the cell so far."""
        runs: list[RunPlan] = []
        for number, values in enumerate(further, len(trials)):
            place = like.model_copy(update={"number": number, "values": values})
            specs = self._trial_specs(cell, values)
            runs += [self._as_trial(plan, place) for plan in self._planner.plan_specs(specs)]
        known = [record.plan for trial in trials for record in trial.records]
        self._checks.refuse_twins([*known, *runs])
        self._checks.check_rungs([*known, *runs])
        return tuple(runs)

    def _trial_specs(self, cell: Cell, values: Values, *, is_named: bool = True) -> list[RunSpec]:
        """One run for each seed of the search; the names of its runs tell the values, unless told otherwise."""
        spec = with_values(cell.trial, self._study, self._document, values, PLACE)
        axes = {name: value for name, value in spec.axes.items() if name not in self._tune.set}
        axes |= values if is_named else {}
        return [
            replace(with_values(spec, self._study, self._document, {"seed": seed}, PLACE), axes=axes)
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


def _told(trial: Trial) -> Told:
    """A trial as the next suggestions are told of it; one that was lost says nothing of its values."""
    if trial.stopped_at is not None:
        steps = trial.plan.rungs[: trial.stopped_at + 1]
        return Told(trial.plan.values, None, dict(zip(steps, trial.rung_scores, strict=False)))
    return Told(trial.plan.values, trial.score, {} if trial.is_judged and trial.score is None else None)


def _cost(run: RunPlan) -> float:
    """Training FLOPs."""
    return run.schedule.steps * run.schedule.batch * run.model.flops_train_per_image


def _without_points(space: Space) -> Space:
    return {
        name: {kind: value for kind, value in searched.items() if kind != "points"} for name, searched in space.items()
    }
