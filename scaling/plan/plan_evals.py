"""From the evaluations that a user writes to planned ones: settings checked, data found, suites taken apart.

The same for a sweep's `evals` and for those that `scaling.evaluate` is asked for.
"""

import importlib
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from scaling.data.format.manifest import Manifest
from scaling.errors import UserError, did_you_mean
from scaling.evals.finetune_settings import FineTuneSettings
from scaling.evals.settings import EVALUATIONS, EvaluationKind, UpstreamSettings
from scaling.plan.check_classifier import Pretraining, loss_problem, outputs_problem
from scaling.plan.check_data import probe_problem, warn_of_shared_shards
from scaling.plan.finetune.check import finetune_problem, unused_problem
from scaling.plan.sources import Sources
from scaling.plan.suite import SUITE, facts_problem, load_suite, score_problem, suite_members
from scaling.records.run_plan import EvalPlan, Frozen, SuitePlace
from scaling.spec.document import Document, KeyPath
from scaling.spec.finetune_recipe import recipes_digest
from scaling.spec.study import EvalSpec, explain, refuse_switches


def plan_evaluations(
    specs: list[EvalSpec], sources: Sources, trained: Pretraining | None = None
) -> tuple[EvalPlan, ...]:
    """The evaluations `evals` of the sources' document, in order, each under a name of its own; UserError for one that
    cannot be computed of runs `trained` so. None where nothing is known of the training, as of other makers' weights.
    """
    plans: list[EvalPlan] = []
    for position, spec in enumerate(specs):
        place: KeyPath = ("evals", position)
        found = (
            _suite(place, spec, sources, trained)
            if spec.kind == SUITE
            else [_evaluation(place, spec, sources, trained, spec.model_extra or {})]
        )
        for plan in found:
            if plan.name in {"upstream", *(other.name for other in plans)}:
                raise sources.document.error(
                    place, f"the name {plan.name!r} is taken; give this evaluation a 'name:' of its own"
                )
            plans.append(plan)
    return tuple(plans)


def _suite(place: KeyPath, spec: EvalSpec, sources: Sources, trained: Pretraining | None) -> list[EvalPlan]:
    """The members of a suite, each an evaluation named `<suite>.<member>`."""
    given = dict(spec.model_extra or {})
    try:
        suite = load_suite(str(given.pop("suite", "")), sources.root)
        members = suite_members(suite, spec.name or suite.suite, given)
    except UserError as error:
        raise sources.document.error(place, str(error)) from error
    plans = []
    for member, told in members:
        one = EvalSpec.model_validate(member)
        try:
            plan = _evaluation(place, one, sources, trained, spec.model_extra or {}).model_copy(update={"suite": told})
            if problem := facts_problem(suite.member(told.member), plan.sources) or score_problem(plan, told):
                raise sources.document.error(place, problem)
            plans.append(plan)
        except UserError as error:
            raise UserError(
                f"{error} (suite {told.name}, member {told.member}{_way_out(suite.prepare, told)})"
            ) from error
    return plans


def _way_out(prepare: str, told: SuitePlace) -> str:
    if not prepare:
        return ""
    command = prepare.format(member=told.member)
    return f"; prepare it with '{command}', or name those that you have: members: [...]"


def _evaluation(
    place: KeyPath, spec: EvalSpec, sources: Sources, trained: Pretraining | None, written: Mapping[str, Any]
) -> EvalPlan:
    """One evaluation; `written` are the keys of it that stand in the document, where those of a suite do not."""
    document = sources.document
    kind = EVALUATIONS.get(spec.kind)
    if kind is None:
        hint = did_you_mean(spec.kind, [*EVALUATIONS, SUITE])
        raise document.error((*place, "kind"), f"{spec.kind!r} is no evaluation; {hint}")
    given = dict(spec.model_extra or {})
    known = ("kind", "name", *kind.sources, *kind.optional_sources)
    if filled := next((name for name in given if name in kind.settled), None):
        settings_known = [name for name in kind.settings.model_fields if name not in kind.settled]
        raise document.error((*place, filled), f"unknown key; {did_you_mean(filled, [*settings_known, *known])}")
    roles = (*kind.sources, *(role for role in kind.optional_sources if given.get(role) is not None))
    names = {role: str(given.get(role)) for role in roles}
    found = {role: _source(place, role, given, sources) for role in roles}
    refuse_switches(kind.settings, document, given, place)
    try:
        settings = kind.settings.model_validate(given)
    except ValidationError as error:
        raise explain(error, document, kind.settings, place, known) from error
    manifests = {role: (names[role], sources.manifest(source)) for role, source in found.items()}
    if problem := probe_problem(spec.name or spec.kind, manifests, settings.model_dump()):
        raise document.error(place, problem)
    if "test" in manifests:
        _check_scored(place, kind, settings, manifests["test"], trained, document)
    values = _settled(place, kind, settings.model_dump(mode="json"), sources)
    if isinstance(settings, FineTuneSettings):
        values |= _checked_finetuning(place, settings, manifests, document)
        families = trained.families if trained is not None else frozenset()
        names_written = [name for name, value in written.items() if value is not None]
        if unused := unused_problem(names_written, settings, manifests["train"][1].num_samples, families):
            raise document.error((*place, unused[0]), unused[1])
    return EvalPlan(
        kind=spec.kind,
        name=spec.name or kind.default_name or spec.kind,
        sources=found,
        settings=values,
        by=kind.by,
        version=kind.version,
    )


def _check_scored(
    place: KeyPath,
    kind: EvaluationKind,
    settings: Frozen,
    test: tuple[str, Manifest],
    trained: Pretraining | None,
    document: Document,
) -> None:
    """UserError when the classifier cannot be scored on the data set `test`; a warning when that is trained on."""
    name, manifest = test
    if kind.uses_classifier and trained is not None and (problem := outputs_problem(name, manifest, trained)):
        raise document.error((*place, "test"), problem)
    if isinstance(settings, UpstreamSettings):
        losses = trained.losses if trained is not None else frozenset()
        if problem := loss_problem(settings.loss, manifest.label_type, name, losses):
            raise document.error(place, problem)
    if trained is not None and trained.manifest is not None:
        warn_of_shared_shards(manifest, trained.manifest, name, trained.name)


def _checked_finetuning(
    place: KeyPath, settings: FineTuneSettings, manifests: dict[str, tuple[str, Manifest]], document: Document
) -> dict[str, Any]:
    """What is to be kept of the recipe beside its name; UserError when recipe or data cannot be used."""
    try:
        digest = recipes_digest(settings.recipe)
    except UserError as error:
        raise document.error((*place, "recipe"), str(error)) from error
    if problem := finetune_problem(manifests, settings):
        raise document.error(place, problem)
    return {"recipes": digest}


def _source(place: KeyPath, role: str, given: dict[str, Any], sources: Sources) -> Any:
    if role not in given:
        raise sources.document.error(place, f"the key {role!r} is missing; add '{role}: MANIFEST'")
    return sources.source((*place, role), str(given.pop(role)))


def _settled(place: KeyPath, kind: EvaluationKind, settings: dict[str, Any], sources: Sources) -> dict[str, Any]:
    """Settings with what the kind derives from files that they name."""
    if not kind.settle:
        return settings
    module, _, name = kind.settle.partition(":")
    try:
        settled: dict[str, Any] = getattr(importlib.import_module(module), name)(settings, sources.root)
    except UserError as error:
        raise sources.document.error(place, str(error)) from error
    return settled
