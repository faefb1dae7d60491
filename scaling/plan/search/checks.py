"""What is refused of a section `tune`: names that do not fit the study, seeds that are not held apart, trials alike.

Each message says where in the sweep, what is wrong and the way out.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from scaling.errors import did_you_mean, shown
from scaling.evals.settings import metrics_of
from scaling.records.files import canonical_json
from scaling.records.run_plan import EvalPlan, RunPlan
from scaling.records.scores.search import cell_text, value_text, values_text
from scaling.spec.document import Document
from scaling.spec.settings import RunSettings
from scaling.spec.study import Study
from scaling.spec.sweep import RunSpec, value_of
from scaling.spec.tune import TuneSpec

UPSTREAM = ("upstream/loss", "upstream/precision_at_1")
"""What every run's own validation measures."""

NOT_SEARCHED = ("recipe", "model", "fraction", "seed", "subset_seed")


class SearchChecks:
    """The section `tune` of one study."""

    def __init__(self, study: Study, document: Document) -> None:
        assert study.tune is not None
        self._study, self._document = study, document
        self._tune: TuneSpec = study.tune

    def check_names(self) -> None:
        """Every name is a setting's, and what makes cells, what is searched and what is set are kept apart."""
        known = self._known_names()
        for position, name in enumerate(self._tune.per):
            place = ("tune", "per", position)
            if name not in known:
                raise self._document.error(place, f"unknown setting {shown(name)}; {did_you_mean(name, known, 30)}")
            if name in ("seed", "subset_seed", "recipe") or name in self._tune.space:
                raise self._document.error(
                    place, f"a cell is not made by {name}, which tells its runs or trials apart; leave it out of per"
                )
        for section in ("space", "set"):
            for name in getattr(self._tune, section):
                place = ("tune", section, name)
                if name not in known:
                    raise self._document.error(place, f"unknown setting; {did_you_mean(name, known, 30)}")
                if name in self._tune.per and section == "space":
                    raise self._document.error(place, f"{name} makes the cells (tune.per); search another setting")
        for name in self._tune.space:
            self._check_searched(name)
        for name in self._tune.set:
            if name in self._tune.per:
                raise self._document.error(
                    ("tune", "set", name), "per makes cells by it, and set would make their trials alike; keep one"
                )
            if name in ("seed", "recipe") or name in self._tune.space:
                raise self._document.error(
                    ("tune", "set", name), "the search itself or the study's runs decide it; leave it out of set"
                )

    def _check_searched(self, name: str) -> None:
        """A searched setting is one that nothing else of the study sets for some of its runs."""
        place = ("tune", "space", name)
        if name in NOT_SEARCHED:
            raise self._document.error(place, "it says what a run is and cannot be searched; list it in grid instead")
        study = self._study
        for section in ("grid", "zip"):
            if name in getattr(study, section):
                raise self._document.error(
                    place, f"it is in {section} as well, and the search sets it; keep one of them"
                )
        for section, rules in (("include", study.include), ("overrides", [rule.set for rule in study.overrides])):
            if any(name in rule for rule in rules):
                raise self._document.error(place, f"{section} sets it as well, for some runs; keep one of them")

    def check_seeds(self, specs: Sequence[RunSpec]) -> None:
        """No final run has a seed of the trials."""
        for position, seed in enumerate(self._tune.seeds):
            if any(spec.settings.seed == seed for spec in specs):
                raise self._document.error(
                    ("tune", "seeds", position),
                    f"{seed} is a seed of the final runs too, which would then be judged by what they were chosen by; "
                    "take one that no run of the study has, for example 1000",
                )

    def check_alike(self, cell: Mapping[str, Any], trials: Sequence[RunSpec]) -> None:
        """What the runs of a cell would have as trials differs in nothing but seeds and searched settings."""
        free = {"seed", "subset_seed", *self._tune.space}
        for spec in trials[1:]:
            for name in self._known_names():
                if name not in free and value_of(spec, name) != value_of(trials[0], name):
                    values = f"{value_text(value_of(trials[0], name))} and {value_text(value_of(spec, name))}"
                    raise self._document.error(
                        ("tune", "per"),
                        f"the runs of {cell_text(cell)} differ in {name} ({shown(values)[1:-1]}), and their "
                        f"trials could have one only; add {name} to per, or say it in tune: {{set: {{{name}: …}}}}",
                    )

    def evals_of_trials(self, evals: Sequence[EvalPlan]) -> tuple[EvalPlan, ...]:
        """What trials are scored by beside their own validation: the evaluation that the metric is of, or nothing."""
        metric = self._tune.metric
        if metric in UPSTREAM:
            return ()
        found = [plan for plan in evals if metric.startswith(f"{plan.name}/")]
        if not found:
            known = sorted(UPSTREAM) + [f"{plan.name}/…" for plan in evals]
            raise self._document.error(
                ("tune", "metric"), f"{shown(metric)}: no run measures it; known: {', '.join(known)}"
            )
        (plan,) = found
        if plan.by == "runs":
            raise self._document.error(
                ("tune", "metric"),
                f"{shown(metric)} is measured by {plan.kind} of the final runs, and trials have none; take "
                f"{' or '.join(UPSTREAM)}, or an evaluation that runs compute themselves",
            )
        measured = metrics_of(plan)
        name = metric.removeprefix(f"{plan.name}/")
        if measured is not None and name not in measured:
            raise self._document.error(
                ("tune", "metric"), f"{shown(metric)}: {plan.name} does not measure it; {did_you_mean(name, measured)}"
            )
        return (plan,)

    def check_scheduler(self) -> None:
        """What a scheduler judges trials by is measured at validations."""
        metric = self._tune.metric
        if self._tune.scheduler != "none" and metric not in UPSTREAM:
            raise self._document.error(
                ("tune", "metric"),
                f"{shown(metric)} is measured after training, and {self._tune.scheduler} judges trials at validations; "
                f"take {' or '.join(UPSTREAM)}, or scheduler: none",
            )

    def check_rungs(self, trials: Sequence[RunPlan]) -> None:
        """Every trial of a cell has rungs, and as many as the others, so that they can be compared at each."""
        if self._tune.scheduler == "none":
            return
        first: dict[str, RunPlan] = {}
        for run in trials:
            assert run.trial is not None
            if not run.trial.rungs:
                raise self._document.error(
                    ("tune", "grace_period"),
                    f"{self._tune.grace_period:,} validations, but {run.run_id} trains for {run.schedule.steps:,} "
                    f"steps and validates every {run.intervals.validate_steps:,}, so none but its last could judge it; "
                    "lower grace_period, or make validate_every smaller",
                )
            other = first.setdefault(canonical_json(run.trial.cell), run)
            assert other.trial is not None
            if len(other.trial.rungs) != len(run.trial.rungs):
                raise self._document.error(
                    ("tune", "space"),
                    f"{values_text(other.trial.values)} and {values_text(run.trial.values)} validate "
                    f"{_validations(other):,} and {_validations(run):,} times, so their trials cannot be compared at "
                    "each; write validate_every as a percentage, or scheduler: none",
                )

    def refuse_twins(self, runs: Sequence[RunPlan]) -> None:
        """No two trials are the same run."""
        seen: dict[str, RunPlan] = {}
        for run in runs:
            twin = seen.setdefault(run.identity, run)
            if twin is not run:
                assert run.trial is not None and twin.trial is not None
                if run.trial.cell == twin.trial.cell:
                    why = f"{values_text(twin.trial.values)} and {values_text(run.trial.values)} give the same numbers"
                    raise self._document.error(("tune", "space"), f"{why}; search a setting that changes a run")
                raise self._document.error(
                    ("tune", "per"),
                    f"{cell_text(twin.trial.cell)} and {cell_text(run.trial.cell)} have the same trials; leave out of "
                    "per what tune.set fixes",
                )

    def _known_names(self) -> list[str]:
        fields = [f"protocol.{name}" for name in type(self._study.protocol).model_fields if name != "kind"]
        return [*RunSettings.model_fields, *fields]


def _validations(run: RunPlan) -> int:
    return -(-run.schedule.steps // run.intervals.validate_steps)
