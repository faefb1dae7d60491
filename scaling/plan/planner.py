"""From a study to frozen run plans: every number that training needs is derived here, once.

Promises: two runs never share an identity; every message about a bad value names where it was written; no
file is written and no model is built in this process.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from scaling.data.format.exclusion_list import load_exclusion
from scaling.data.format.manifest import Manifest, find_manifest, load_manifest
from scaling.data.select.exclusion import NO_EXCLUSION
from scaling.data.select.order import ORDER_VERSION
from scaling.data.select.subset import select_subset
from scaling.errors import UserError, did_you_mean
from scaling.evals.settings import EVALUATIONS, EvaluationKind
from scaling.models.registry import (
    check_name,
    check_options,
    default_image_size,
    family_of,
    is_timm_name,
)
from scaling.plan.check_data import class_problem, probe_problem, subset_problem, unfair_spread
from scaling.plan.harness import describe_harness
from scaling.plan.identity import run_identity, run_name
from scaling.plan.model_facts import ModelFacts, ModelQuery, count_models
from scaling.plan.plan_input import plan_input
from scaling.plan.plan_recipe import initial_head_bias, plan_recipe
from scaling.plan.plan_schedule import plan_schedule
from scaling.records.run_plan import (
    AccessPlan,
    EnginePlan,
    EvalPlan,
    IntervalPlan,
    ModelPlan,
    RunPlan,
    SourcePlan,
    SubsetPlan,
    canonical_json,
)
from scaling.spec.document import Document, Place
from scaling.spec.duration import Duration
from scaling.spec.settings import RunSettings
from scaling.spec.study import EvalSpec, Study, explain
from scaling.spec.sweep import RunSpec, expand

READABLE_AXES = ("model", "fraction", "seed")
"""Axes that a run's name shows in a form of their own."""


class Planner:
    """Plans one study. Manifests are read once and shared by all runs."""

    def __init__(self, study: Study, document: Document, threads_per_process: int) -> None:
        self._study = study
        self._document = document
        self._threads = threads_per_process
        self._exclusion = NO_EXCLUSION
        self._exclusion_place = ""
        self._manifests: dict[Path | str, Manifest] = {}
        data = study.data
        cache = str(Path(data.cache).resolve()) if data.cache else ""
        self._access = AccessPlan(storage=data.storage, cache=cache, cache_gb=data.cache_gb, verify=data.verify_shards)

    def plan(self, cache_path: Path | None) -> list[RunPlan]:
        """All runs in the study's order; `cache_path` keeps the counted facts of the models."""
        specs = expand(self._study, self._document)
        for spec in specs:
            self._check_model(spec)
        data = self._study.data
        train = self._source(("data", "train"), data.train)
        self._read_exclusion()
        val = self._source(("data", "val"), data.val)
        self._check_classes()
        if val.num_classes != train.num_classes or val.label_type != train.label_type:
            raise self._document.error(
                ("data", "val"),
                f"{data.val}: {val.num_classes} {val.label_type}-label classes, but {data.train} has "
                f"{train.num_classes} {train.label_type}-label classes; the held-out split must share the labels",
            )
        evals = tuple(self._evaluation(position, spec) for position, spec in enumerate(self._study.evals))
        self._check_eval_names(evals)
        facts = count_models((self._query(spec, train.num_classes) for spec in specs), cache_path)
        harness = describe_harness()
        plans = [
            self._plan_run(spec, train, val, evals, facts[self._query(spec, train.num_classes)], harness)
            for spec in specs
        ]
        self._refuse_duplicates(specs, plans)
        return plans

    def refuse_declared_data(self) -> None:
        """UserError when something to be trained or scored on is known by count only; call after `plan`."""
        for path, manifest in self._manifests.items():
            if manifest.is_declared:
                raise UserError(
                    f"{path} declares {manifest.num_samples:,} samples without any shards, which is enough for "
                    "--dry-run only; index your own shards with 'python -m scaling.data index' and name their "
                    "manifests in data and evals, for example with --set data.train=MANIFEST"
                )

    def _plan_run(
        self,
        spec: RunSpec,
        train: SourcePlan,
        val: SourcePlan,
        evals: tuple[EvalPlan, ...],
        facts: ModelFacts,
        harness: Any,
    ) -> RunPlan:
        settings = spec.settings
        subset = self._subset(spec)
        schedule = plan_schedule(spec, subset.num_samples, facts.flops_train_per_image, self._document)
        recipe = plan_recipe(settings, train.label_type, self._document)
        model = ModelPlan(
            name=settings.model,
            family=family_of(settings.model),
            image_size=self._image_size(spec),
            num_classes=train.num_classes,
            options=_model_options(settings),
            head_bias=initial_head_bias(settings.head_bias, recipe.loss, train.num_classes),
            drop_path=settings.drop_path,
            num_params=facts.num_params,
            num_body_params=facts.num_body_params,
            flops_forward_per_image=facts.flops_forward_per_image,
            flops_train_per_image=facts.flops_train_per_image,
        )

        def steps(duration: Duration) -> int:
            return duration.to_steps(batch=schedule.batch, num_samples=subset.num_samples, total_steps=schedule.steps)

        intervals = IntervalPlan(
            log_steps=steps(settings.log_every),
            validate_steps=steps(settings.validate_every),
            checkpoint_steps=steps(settings.checkpoint_every),
            keep_checkpoints=settings.keep_checkpoints,
        )
        input_plan = plan_input(settings, model.image_size, self._document)
        identity = run_identity(
            model=model,
            train=train,
            val=val,
            input=input_plan,
            subset=subset,
            schedule=schedule,
            recipe=recipe,
            validate_steps=intervals.validate_steps,
            order_version=ORDER_VERSION,
            seed=settings.seed,
        )
        other_axes = {name: value for name, value in spec.axes.items() if name not in READABLE_AXES}
        return RunPlan(
            study=self._study.study,
            run_id=run_name(settings.model, settings.fraction, settings.seed, other_axes, identity),
            identity=identity,
            seed=settings.seed,
            model=model,
            train=train,
            val=val,
            input=input_plan,
            subset=subset,
            schedule=schedule,
            recipe=recipe,
            intervals=intervals,
            engine=self._engine(spec, schedule.batch),
            evals=evals,
            harness=harness,
        )

    def _source(self, place: Place, name: str) -> SourcePlan:
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

    def _check_classes(self) -> None:
        """The held-out split names its classes as the training set does."""
        data = self._study.data
        train, val = (self._manifests[find_manifest(data.root, name)] for name in (data.train, data.val))
        if problem := class_problem(train, val, data.train, data.val):
            raise self._document.error(("data", "val"), problem)

    def _subset(self, spec: RunSpec) -> SubsetPlan:
        settings = spec.settings
        seed = settings.seed if settings.subset_seed is None else settings.subset_seed
        manifest = self._manifests[find_manifest(self._study.data.root, self._study.data.train)]
        data = self._study.data
        if problem := subset_problem(manifest, data.train, settings.fraction, data.allow_unfair_subsets):
            raise self._document.error(("data", "train"), problem)
        subset = select_subset(manifest, settings.fraction, seed, self._exclusion)
        return SubsetPlan(
            fraction=settings.fraction,
            seed=seed,
            num_samples=subset.num_samples,
            digest=subset.digest,
            exclude=self._exclusion_place,
            exclusion_digest=self._exclusion.digest,
            label_spread=unfair_spread(manifest, settings.fraction),
        )

    def _read_exclusion(self) -> None:
        """The list of images that no run may see, which is one for the whole study."""
        data = self._study.data
        if data.exclude is None:
            return
        self._exclusion_place = str(find_manifest(data.root, data.exclude))
        try:
            self._exclusion = load_exclusion(
                self._exclusion_place, self._manifests[find_manifest(data.root, data.train)]
            )
        except UserError as error:
            raise self._document.error(("data", "exclude"), str(error)) from error

    def _engine(self, spec: RunSpec, batch: int) -> EnginePlan:
        launch = self._study.launch
        devices = launch.devices_per_run
        if batch % devices:
            workable = [n for n in range(1, batch + 1) if batch % n == 0 and n <= 4 * devices]
            raise self._document.error(
                ("protocol", "batch"),
                f"{batch} does not divide over launch.devices_per_run = {devices} devices; devices that work: "
                + ", ".join(map(str, workable)),
            )
        share = batch // devices
        if spec.settings.mixup and share % 2:
            raise self._document.error(
                ("defaults", "mixup"),
                f"{spec.settings.mixup:g} blends pairs of images on one device, and each of launch.devices_per_run = "
                f"{devices} devices takes an odd number, {share}, of a batch of {batch}; let {2 * devices} divide it",
            )
        wanted = spec.settings.micro_batch
        micro_batch = share if wanted in (None, "auto") else min(int(wanted), share)
        if share % micro_batch:
            workable = [n for n in range(1, share + 1) if share % n == 0]
            raise self._document.error(
                ("defaults", "micro_batch"),
                f"{micro_batch} does not divide a device's share of {share} examples; sizes that work: "
                + ", ".join(map(str, workable)),
            )
        return EnginePlan(
            num_devices=devices,
            micro_batch=micro_batch,
            auto_micro_batch=wanted == "auto",
            zero_stage=spec.settings.zero_stage,
            activation_checkpointing=spec.settings.activation_checkpointing,
            channels_last=spec.settings.channels_last,
            deterministic=spec.settings.deterministic,
            compile=spec.settings.compile,
            threads=self._threads,
            loader_threads=launch.loader_threads,
            trackers=launch.trackers,
            non_finite=spec.settings.non_finite,
            max_corrupt=self._study.data.max_corrupt,
        )

    def _evaluation(self, position: int, spec: EvalSpec) -> EvalPlan:
        place: Place = ("evals", position)
        kind = EVALUATIONS.get(spec.kind)
        if kind is None:
            hint = did_you_mean(spec.kind, EVALUATIONS)
            raise self._document.error((*place, "kind"), f"{spec.kind!r} is no evaluation; {hint}")
        given = dict(spec.model_extra or {})
        names = {role: str(given.get(role)) for role in kind.sources}
        sources = {role: self._eval_source(place, kind, role, given) for role in kind.sources}
        try:
            settings = kind.settings.model_validate(given)
        except ValidationError as error:
            raise explain(error, self._document, kind.settings, place, ("kind", "name", *kind.sources)) from error
        manifests = {
            role: (name, self._manifests[find_manifest(self._study.data.root, name)]) for role, name in names.items()
        }
        if problem := probe_problem(spec.name or spec.kind, manifests, settings.model_dump()):
            raise self._document.error(place, problem)
        return EvalPlan(
            kind=spec.kind,
            name=spec.name or spec.kind,
            sources=sources,
            settings=settings.model_dump(mode="json"),
        )

    def _eval_source(self, place: Place, kind: EvaluationKind, role: str, given: dict[str, Any]) -> SourcePlan:
        if role not in given:
            raise self._document.error(place, f"the key {role!r} is missing; add '{role}: MANIFEST'")
        return self._source((*place, role), str(given.pop(role)))

    def _check_eval_names(self, evals: Sequence[EvalPlan]) -> None:
        names = ["upstream"]
        for position, plan in enumerate(evals):
            if plan.name in names:
                raise self._document.error(
                    ("evals", position), f"the name {plan.name!r} is taken; give this evaluation a 'name:' of its own"
                )
            names.append(plan.name)

    def _check_model(self, spec: RunSpec) -> None:
        """The model's name and options are known to its family."""
        try:
            check_name(spec.settings.model)
            check_options(spec.settings.model, _model_options(spec.settings))
        except UserError as error:
            raise self._document.error(self._place_of_model(spec), str(error)) from error

    def _place_of_model(self, spec: RunSpec) -> Place:
        name = spec.settings.model
        for place in (("grid", "model"), ("zip", "model")):
            values = self._document.data.get(place[0], {}).get("model", [])
            if name in values:
                return (*place, values.index(name))
        return (*spec.place, "model") if spec.place != ("grid",) else ("defaults", "model")

    def _image_size(self, spec: RunSpec) -> int:
        return spec.settings.image_size or default_image_size(spec.settings.model)

    def _query(self, spec: RunSpec, num_classes: int) -> ModelQuery:
        settings = spec.settings
        return ModelQuery(settings.model, self._image_size(spec), num_classes, canonical_json(_model_options(settings)))

    def _refuse_duplicates(self, specs: Sequence[RunSpec], plans: Sequence[RunPlan]) -> None:
        seen: dict[str, int] = {}
        for position, plan in enumerate(plans):
            first = seen.setdefault(plan.identity, position)
            if first != position:
                raise self._document.error(
                    specs[position].place,
                    f"{specs[first].axes} and {specs[position].axes} are the same run ({plan.run_id}); remove one of "
                    "them or let them differ in a setting",
                )


def _model_options(settings: RunSettings) -> dict[str, Any]:
    """The options of the model with the setting `dropout` among them; UserError where it cannot be one."""
    options = settings.model_options
    if not settings.dropout:
        return options
    if is_timm_name(settings.model) or "dropout" in options:
        raise UserError(
            f"dropout: {settings.dropout:g} cannot be placed in {settings.model}; leave it out and write the model's "
            "own option, for example model_options: {drop_rate: 0.1} for a timm model"
        )
    return {**options, "dropout": settings.dropout}
