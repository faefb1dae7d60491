"""Trained runs, one or a study: what is asked for is added to their plans, and a back end computes what is missing.

An evaluation is a job like a training: the same back ends start it, a lease keeps a second process out, what is done is
recorded at once, and after a kill the same command resumes. So this module adds evaluations to plans and watches.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from scaling.data.format.load_manifest import load_manifest
from scaling.errors import UserError
from scaling.evaluate.asked import Wish, asked_evaluations
from scaling.evaluate.finetuning import execute, follow_runs
from scaling.launch.study_dir import PlannedRun, find_standings, write_run
from scaling.plan.check_classifier import Pretraining
from scaling.readable import named
from scaling.records.attempts.ends import forgive
from scaling.records.frozen_sweep import sweep_text
from scaling.records.reading import RecordError
from scaling.records.run_dir import RunDir, StudyDir
from scaling.records.run_plan import EvalPlan, RunPlan
from scaling.records.scores.suites import suite_scores
from scaling.records.standing import find_standing
from scaling.records.state import Status
from scaling.records.study import RunRecord, load_run
from scaling.spec.launch_spec import LaunchSpec
from scaling.spec.plain_yaml import read_yaml

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """How the evaluations of runs are executed; None leaves what the study says."""

    backend: str | None = None
    devices: int | None = None
    """That compute one evaluation together."""
    max_parallel: int | None = None
    threads: int | None = None
    loader_threads: int | None = None


@dataclass(frozen=True, slots=True)
class Scored:
    """One run after its evaluations."""

    record: RunRecord
    asked: tuple[str, ...]
    """Names of the evaluations that were wanted."""

    @property
    def metrics(self) -> dict[str, float]:
        """Of the wanted evaluations, and the means of complete suites among them."""
        names = {*self.asked, *(plan.suite.name for plan in self.record.plan.evals if plan.suite and self._has(plan))}
        return {key: value for key, value in self.record.metrics.items() if key.rpartition("/")[0] in names}

    @property
    def missing(self) -> tuple[str, ...]:
        """Names of the wanted evaluations that have no current record."""
        return tuple(name for name in self.asked if name not in self.record.evaluations)

    @property
    def incomplete(self) -> list[str]:
        """A sentence on every wanted suite that has no mean, with the members that are missing."""
        told = []
        for suite in suite_scores(filter(self._has, self.record.plan.evals), self.record.metrics):
            if suite.missing:
                told.append(f"{suite.name}: no mean without {', '.join(suite.missing)}")
        return told

    def _has(self, plan: EvalPlan) -> bool:
        return plan.name in self.asked


def score_runs(run_dirs: Sequence[Path], wish: Wish, execution: Execution) -> list[Scored]:
    """Compute what is missing of the wanted evaluations, all planned ones where none is named; idempotent.

    All runs lie in one study. Runs that are not trained are named and left out; UserError when none is."""
    study_dir = run_dirs[0].parent
    plans = [load_run(run_dir).plan for run_dir in run_dirs]
    trained = [plan for plan, run_dir in zip(plans, run_dirs, strict=True) if _is_trained(run_dir, plan)]
    others = [plan.run_id for plan in plans if plan not in trained]
    if not trained:
        raise UserError(f"{run_dirs[0] if len(run_dirs) == 1 else study_dir}: nothing is trained yet; launch the study")
    if others:
        logger.warning("%d runs are not trained and left out: %s", len(others), named(others, 3))
    swept = set.intersection(*({one.name for one in plan.evals if not one.added} for plan in trained))
    is_more_asked = any(word not in swept or wish.name is not None for word in wish.words)
    new = asked_evaluations(wish, sorted(swept), _pretraining(trained) if is_more_asked else None)
    asked = tuple(one.name for one in new) + tuple(word for word in wish.words if word in swept)
    plans = [plan.model_copy(update={"evals": with_evaluations(plan, new)}) for plan in trained]
    for plan in plans:
        write_run(study_dir, plan)
    runs = [_forgiven(run) for run in find_standings(study_dir, plans)]
    names = asked or tuple(one.name for one in plans[0].evals)
    open_ones = [run for run in runs if run.standing.is_alive or not run.standing.has_ended]
    to_tune = _to_finetune(runs, names)
    if open_ones or to_tune:
        launch = _launch_spec(study_dir, execution)
        follow_ups = [one for evaluation, plans in to_tune for one in follow_runs(plans, [evaluation], launch)]
        execute(study_dir, runs, follow_ups, launch, execution.max_parallel)
    return [Scored(load_run(study_dir / plan.run_id), asked or tuple(one.name for one in plan.evals)) for plan in plans]


def _pretraining(plans: Sequence[RunPlan]) -> Pretraining:
    """What these runs of one study were trained on and by; a warning when that data is no longer what it was, as
    evaluations do not need it."""
    source = plans[0].train
    losses = frozenset(plan.recipe.loss for plan in plans)
    families = frozenset(plan.model.family for plan in plans)
    try:
        manifest = load_manifest(source.manifest, source.access)
    except UserError as error:
        logger.warning("%s; classes and images of the evaluations are not compared with it", error)
        return Pretraining(source.manifest, None, losses, families)
    if manifest.digest != source.digest:
        logger.warning(
            "%s has changed since the runs were trained on it; classes and images of the evaluations are not compared",
            source.manifest,
        )
        return Pretraining(source.manifest, None, losses, families)
    return Pretraining(source.manifest, manifest, losses, families)


def _to_finetune(runs: Sequence[PlannedRun], names: Sequence[str]) -> list[tuple[EvalPlan, list[RunPlan]]]:
    """Each wanted fine-tuning with the runs that have no current record of it."""
    found: dict[str, tuple[EvalPlan, list[RunPlan]]] = {}
    for run in runs:
        known = load_run(run.run_dir).evaluations
        for one in run.plan.evals:
            if one.by == "runs" and one.name in names and one.name not in known and run.plan.is_point:
                found.setdefault(one.digest() + one.name, (one, []))[1].append(run.plan)
    return list(found.values())


def with_evaluations(plan: RunPlan, new: Sequence[EvalPlan]) -> tuple[EvalPlan, ...]:
    """The evaluations of a run with further ones; UserError where a name has another meaning already."""
    known = {one.name: one for one in plan.evals}
    for one in new:
        if one.name in known and known[one.name].digest() != one.digest():
            raise UserError(
                f"{plan.run_id}: {one.name!r} was asked for with other settings or data before; add --name with another"
            )
    return (*plan.evals, *(one for one in new if one.name not in known))


def study_runs(study_dir: Path) -> list[Path]:
    """Folders of a study's runs, without those that only serve others: trials of a search, and fine-tuning. One whose
    plan is damaged, or of another run, is told and left out; UserError when there are none."""
    found = []
    for run in StudyDir(study_dir).run_dirs():
        try:
            if load_run(run.path).plan.is_point:
                found.append(run.path)
        except RecordError as error:
            logger.warning("%s; the run is left out", error)
    if not found:
        raise UserError(
            f"{study_dir} holds no run.json and no runs with one; give a folder made by scaling.launch, RUNS/<study> "
            "or RUNS/<study>/<run_id>, or a weights file"
        )
    return found


def _is_trained(run_dir: Path, plan: RunPlan) -> bool:
    return find_standing(run_dir, plan).status is Status.DONE and RunDir(run_dir).best_weights.exists()


def _forgiven(run: PlannedRun) -> PlannedRun:
    """A run whose scoring failed is asked again: somebody wants it."""
    if not run.standing.evaluation_failed:
        return run
    forgive(run.run_dir)
    return run.look_again()


def _launch_spec(study_dir: Path, execution: Execution) -> LaunchSpec:
    """The study's section `launch` with what the command line says; the defaults where the sweep is gone and, with a
    warning, where it is damaged."""
    path = StudyDir(study_dir).sweep
    text = sweep_text(study_dir)
    section: dict[str, Any] = {}
    if text:
        try:
            sweep, _ = read_yaml(text)
            section = dict(sweep.get("launch", {}))
        except (AttributeError, TypeError, ValueError) as error:
            logger.warning("%s: its section launch cannot be read (%s); the defaults are taken", path, error)
    return launch_spec(section, execution, str(path))


def launch_spec(section: Mapping[str, Any], execution: Execution, where: str) -> LaunchSpec:
    """A section `launch` with what the command line says; UserError, with `where` it stands, for one that is wrong."""
    section = dict(section)
    # One device scores one run unless it is said otherwise.
    for part in (section, slurm := dict(section.get("slurm", {}))):
        for key in ("devices_per_run", "nodes", "devices_per_node"):
            part.pop(key, None)
    section["slurm"] = slurm
    section |= {"devices_per_run": execution.devices or 1}
    section |= {key: value for key in ("backend", "loader_threads") if (value := getattr(execution, key)) is not None}
    if execution.threads is not None:
        section["local"] = {**section.get("local", {}), "threads": execution.threads}
    try:
        return LaunchSpec.model_validate(section)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise UserError(
            f"{where}: launch.{'.'.join(map(str, first['loc']))}: {first['msg']}; correct it, or launch the study again"
        ) from error
