"""The data of a study as planning sees it: manifests, the subset of each run, what is excluded, what scores it.

Manifests are read and subsets drawn once and shared by all runs. Every message about a data set names where the study
names it.
"""

import functools
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from scaling.data.format.exclusion_list import load_exclusion
from scaling.data.format.manifest import Manifest, find_manifest, load_manifest
from scaling.data.select.exclusion import NO_EXCLUSION, Exclusion
from scaling.data.select.subset import select_subset
from scaling.errors import UserError, did_you_mean
from scaling.evals.finetune_settings import FineTuneSettings
from scaling.evals.settings import EVALUATIONS, EvaluationKind
from scaling.plan.check_data import class_problem, probe_problem, subset_problem, unfair_spread
from scaling.plan.finetune.check import transfer_problem
from scaling.records.run_plan import AccessPlan, EvalPlan, SourcePlan, SubsetPlan
from scaling.spec.document import Document, KeyPath
from scaling.spec.finetune_recipe import recipes_digest
from scaling.spec.study import EvalSpec, Study, explain, refuse_switches


class StudyData:
    """Reads what a study names; nothing before it is asked for."""

    def __init__(self, study: Study, document: Document) -> None:
        self._study, self._document = study, document
        self._manifests: dict[Path | str, Manifest] = {}
        self._subsets: dict[tuple[float, int], SubsetPlan] = {}
        data = study.data
        cache = str(Path(data.cache).resolve()) if data.cache else ""
        self._access = AccessPlan(storage=data.storage, cache=cache, cache_gb=data.cache_gb, verify=data.verify_shards)

    @functools.cached_property
    def train(self) -> SourcePlan:
        """What runs are trained on."""
        return self._source(("data", "train"), self._study.data.train)

    @functools.cached_property
    def val(self) -> SourcePlan:
        """The held-out split; UserError when its classes are not those of the training data."""
        train, name = self.train, self._study.data.val
        val = self._source(("data", "val"), name)
        if problem := class_problem(self.manifest_of(train), self.manifest_of(val), self._study.data.train, name):
            raise self._document.error(("data", "val"), problem)
        if val.num_classes != train.num_classes or val.label_type != train.label_type:
            raise self._document.error(
                ("data", "val"),
                f"{name}: {val.num_classes} {val.label_type}-label classes, but {self._study.data.train} has "
                f"{train.num_classes} {train.label_type}-label classes; the held-out split must share the labels",
            )
        return val

    @functools.cached_property
    def evals(self) -> tuple[EvalPlan, ...]:
        """The evaluations of every run, in the study's order, each under a name of its own."""
        plans: list[EvalPlan] = []
        for position, spec in enumerate(self._study.evals):
            plan = self._evaluation(position, spec)
            if plan.name in {"upstream", *(other.name for other in plans)}:
                raise self._document.error(
                    ("evals", position), f"the name {plan.name!r} is taken; give this evaluation a 'name:' of its own"
                )
            plans.append(plan)
        return tuple(plans)

    def subset(self, fraction: float, seed: int) -> SubsetPlan:
        """The training images of a run."""
        if (fraction, seed) not in self._subsets:
            place, exclusion = self._exclusion
            data, manifest = self._study.data, self.manifest_of(self.train)
            if problem := subset_problem(manifest, data.train, fraction, data.allow_unfair_subsets):
                raise self._document.error(("data", "train"), problem)
            subset = select_subset(manifest, fraction, seed, exclusion)
            self._subsets[fraction, seed] = SubsetPlan(
                fraction=fraction,
                seed=seed,
                num_samples=subset.num_samples,
                digest=subset.digest,
                exclude=place,
                exclusion_digest=exclusion.digest,
                label_spread=unfair_spread(manifest, fraction),
            )
        return self._subsets[fraction, seed]

    def refuse_declared(self) -> None:
        """UserError when something to be trained or scored on is known by count only; call after planning."""
        for path, manifest in self._manifests.items():
            if manifest.is_declared:
                raise UserError(
                    f"{path} declares {manifest.num_samples:,} samples without any shards, which is enough for "
                    "--dry-run only; index your own shards with 'python -m scaling.data index' and name their "
                    "manifests in data and evals, for example with --set data.train=MANIFEST"
                )

    @functools.cached_property
    def _exclusion(self) -> tuple[str, Exclusion]:
        """Where the list of images is that no run may see, which is one for the whole study, and the list."""
        data = self._study.data
        if data.exclude is None:
            return "", NO_EXCLUSION
        place = str(find_manifest(data.root, data.exclude))
        try:
            return place, load_exclusion(place, self.manifest_of(self.train))
        except UserError as error:
            raise self._document.error(("data", "exclude"), str(error)) from error

    def manifest_of(self, source: SourcePlan) -> Manifest:
        """The manifest of a source that the study names."""
        path = find_manifest("", source.manifest)
        if path not in self._manifests:
            self._manifests[path] = load_manifest(path, source.access)
        return self._manifests[path]

    def _source(self, place: KeyPath, name: str) -> SourcePlan:
        path = find_manifest(self._study.data.root, name)
        if path not in self._manifests:
            try:
                self._manifests[path] = load_manifest(path, self._access)
            except UserError as error:
                raise self._document.error(place, str(error)) from error
        manifest = self._manifests[path]
        return SourcePlan(
            manifest=str(path),
            access=self._access,
            digest=manifest.digest,
            label_type=manifest.label_type,
            num_classes=len(manifest.classes),
            num_samples=manifest.num_samples,
        )

    def _evaluation(self, position: int, spec: EvalSpec) -> EvalPlan:
        place: KeyPath = ("evals", position)
        kind = EVALUATIONS.get(spec.kind)
        if kind is None:
            hint = did_you_mean(spec.kind, EVALUATIONS)
            raise self._document.error((*place, "kind"), f"{spec.kind!r} is no evaluation; {hint}")
        given = dict(spec.model_extra or {})
        names = {role: str(given.get(role)) for role in kind.sources}
        sources = {role: self._eval_source(place, kind, role, given) for role in kind.sources}
        refuse_switches(kind.settings, self._document, given, place)
        try:
            settings = kind.settings.model_validate(given)
        except ValidationError as error:
            raise explain(error, self._document, kind.settings, place, ("kind", "name", *kind.sources)) from error
        manifests = {role: (names[role], self.manifest_of(source)) for role, source in sources.items()}
        if problem := probe_problem(spec.name or spec.kind, manifests, settings.model_dump()):
            raise self._document.error(place, problem)
        values = settings.model_dump(mode="json")
        if isinstance(settings, FineTuneSettings):
            values |= self._checked_finetuning(place, settings, manifests)
        return EvalPlan(kind=spec.kind, name=spec.name or spec.kind, sources=sources, settings=values, by=kind.by)

    def _checked_finetuning(
        self, place: KeyPath, settings: FineTuneSettings, manifests: dict[str, tuple[str, Manifest]]
    ) -> dict[str, Any]:
        """What is to be kept of the recipe beside its name; UserError when recipe or data cannot be used."""
        try:
            digest = recipes_digest(settings.recipe)
        except UserError as error:
            raise self._document.error((*place, "recipe"), str(error)) from error
        if problem := transfer_problem(manifests["train"], manifests["test"]):
            raise self._document.error(place, problem)
        return {"recipes": digest}

    def _eval_source(self, place: KeyPath, kind: EvaluationKind, role: str, given: dict[str, Any]) -> SourcePlan:
        if role not in given:
            raise self._document.error(place, f"the key {role!r} is missing; add '{role}: MANIFEST'")
        return self._source((*place, role), str(given.pop(role)))
