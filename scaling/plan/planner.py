"""From a study to frozen run plans: every number that training needs is derived here, once.

Promises: two runs never share an identity; every message about a bad value names where it was written; no
file is written and no model is built in this process.
"""

import functools
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeVar, cast

from scaling.data.select.order import ORDER_VERSION
from scaling.errors import UserError
from scaling.models.registry import check_name, chosen_options, default_image_size, family_of, is_timm_name
from scaling.plan.count_models import count_models
from scaling.plan.plan_data import StudyData
from scaling.plan.plan_recipe import initial_head_bias, plan_input, plan_recipe
from scaling.plan.plan_schedule import plan_schedule, warn_of_idle_patience
from scaling.plan.whole_steps import warn_of_rounding
from scaling.plan.zoo_counts import ModelFacts, ModelQuery
from scaling.records.attempts.provenance import describe_harness_source
from scaling.records.identity import identity_of, run_name
from scaling.records.reading import Frozen
from scaling.records.run_plan import (
    EnginePlan,
    EvalPlan,
    HarnessPlan,
    IntervalPlan,
    ModelPlan,
    RunPlan,
    SourcePlan,
    SubsetPlan,
    canonical_json,
)
from scaling.spec.document import Document, KeyPath
from scaling.spec.duration import Duration
from scaling.spec.settings import RunSettings
from scaling.spec.study import Study
from scaling.spec.sweep import RunSpec, value_of

P = TypeVar("P", bound=Frozen)

READABLE_AXES = ("model", "fraction", "seed")
"""Axes that a run's name shows in a form of their own."""


@dataclass(frozen=True, slots=True)
class RunData:
    """What one run is trained, validated and scored on."""

    train: SourcePlan
    val: SourcePlan
    subset: SubsetPlan
    evals: tuple[EvalPlan, ...] = ()


class Planner:
    """Plans the runs of one study."""

    def __init__(self, study: Study, document: Document) -> None:
        self._study, self._document = study, document
        self._data = StudyData(study, document)
        self._parts: dict[tuple[type, str], Frozen] = {}

    def plan(self) -> list[RunPlan]:
        """All runs in the study's order."""
        specs = self.specs
        plans = self.plan_specs(specs)
        self._refuse_duplicates(specs, plans)
        warn_of_rounding(specs, plans, self._document)
        warn_of_idle_patience(plans, self._document)
        return plans

    @property
    def num_devices(self) -> int:
        """Of every run that the study plans."""
        return self._study.launch.devices

    @property
    def specs(self) -> list[RunSpec]:
        """All runs as the study describes them, in its order."""
        return self._data.specs

    def plan_specs(self, specs: Sequence[RunSpec]) -> list[RunPlan]:
        """These runs, also ones that the study does not list: what follows from other runs is planned by this."""
        queries = self._queries(specs)
        facts = count_models(queries)
        return [self._plan_run(spec, facts[query]) for spec, query in zip(specs, queries, strict=True)]

    def plan_one(self, spec: RunSpec) -> RunPlan:
        """One run, as `plan_specs` plans several."""
        return self.plan_specs([spec])[0]

    @property
    def evals(self) -> tuple[EvalPlan, ...]:
        """What every run of the study is scored by."""
        return self._data.evals

    def count(self, queries: Iterable[ModelQuery]) -> dict[ModelQuery, ModelFacts]:
        """Parameters and FLOPs; UserError for a model that cannot be built."""
        return count_models(queries)

    @property
    def data(self) -> StudyData:
        """The data sets that the study names."""
        return self._data

    def refuse_declared_data(self) -> None:
        """UserError when something to be trained or scored on is known by count only; call after planning."""
        self._data.refuse_declared()

    @functools.cached_property
    def _harness(self) -> HarnessPlan:
        return describe_harness()

    def _plan_run(self, spec: RunSpec, facts: ModelFacts) -> RunPlan:
        settings = spec.settings
        seed = settings.seed if settings.subset_seed is None else settings.subset_seed
        data = self._data
        plan = self.assemble(
            spec, facts, RunData(data.train, data.val, data.subset(settings.fraction, seed), data.evals)
        )
        # What the run has: an override may have changed what the axis said.
        other_axes = {name: value_of(spec, name) for name in spec.axes if name not in READABLE_AXES}
        identity = identity_of(plan)
        run_id = run_name(settings.model, settings.fraction, settings.seed, other_axes, identity)
        return plan.model_copy(update={"run_id": run_id, "identity": identity})

    def assemble(self, spec: RunSpec, facts: ModelFacts, data: RunData) -> RunPlan:
        """The plan of a run on `data`, without its name and identity."""
        settings = spec.settings
        train, subset = data.train, data.subset
        schedule = plan_schedule(spec, subset.num_samples, facts.flops_train_per_image, self._document)
        recipe = plan_recipe(settings, train.label_type, self._image_size(spec), self._document)
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
        engine = self._engine(spec, schedule.batch, facts)
        return RunPlan(
            study=self._study.study,
            run_id="",
            identity="",
            seed=settings.seed,
            model=model,
            train=train,
            val=data.val,
            input=input_plan,
            subset=subset,
            order_version=ORDER_VERSION,
            schedule=self._shared(schedule),
            recipe=self._shared(recipe),
            intervals=self._shared(intervals),
            engine=self._shared(engine),
            evals=data.evals,
            harness=self._harness,
        )

    def _shared(self, part: P) -> P:
        """An equal part of another run's plan in the place of this one: of ten thousand runs few parts differ. Equal as
        written: 0.0 and -0.0 are two settings of two runs."""
        return cast(P, self._parts.setdefault((type(part), part.model_dump_json()), part))

    def _engine(self, spec: RunSpec, batch: int, facts: ModelFacts) -> EnginePlan:
        launch = self._study.launch
        devices = launch.devices
        if batch % devices:
            workable = [number for number in divisors(batch) if number <= 4 * devices]
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
        if spec.settings.exchange == "bf16" and (spec.settings.zero_stage > 0 or devices == 1):
            raise self._document.error(
                ("defaults", "exchange"),
                f"bf16 with zero_stage: {spec.settings.zero_stage} and launch.devices_per_run = {devices}; it is for "
                "the sum over several devices under zero_stage: 0",
            )
        if spec.settings.overlap_comm and spec.settings.zero_stage == 0:
            raise self._document.error(
                ("defaults", "overlap_comm"),
                "true with zero_stage: 0, which exchanges gradients after the backward pass; take zero_stage 1 or 2",
            )
        if spec.settings.overlap_comm and devices == 1:
            raise self._document.error(
                ("defaults", "overlap_comm"),
                "true with launch.devices_per_run = 1, which exchanges nothing; take it out, or give more devices",
            )
        wanted = spec.settings.micro_batch
        micro_batch = share if wanted in (None, "auto") else min(int(wanted), share)
        if share % micro_batch:
            raise self._document.error(
                ("defaults", "micro_batch"),
                f"{micro_batch} does not divide a device's share of {share} examples; sizes that work: "
                + ", ".join(map(str, divisors(share))),
            )
        return EnginePlan(
            num_devices=devices,
            micro_batch=micro_batch,
            auto_micro_batch=wanted == "auto",
            batching_counts=self._batching_counts(spec, facts, devices),
            zero_stage=spec.settings.zero_stage,
            overlap_comm=spec.settings.overlap_comm,
            activation_checkpointing=spec.settings.activation_checkpointing,
            channels_last=spec.settings.channels_last,
            deterministic=spec.settings.deterministic,
            compile=spec.settings.compile,
            reproduce=launch.reproduce,
            trackers=launch.trackers,
            non_finite=spec.settings.non_finite,
            max_corrupt=self._study.data.max_corrupt,
        )

    def _batching_counts(
        self, spec: RunSpec, facts: ModelFacts, devices: int
    ) -> Literal["no", "devices", "micro_batch"]:
        """What of the division of a batch changes the numbers; UserError where that would be left to chance."""
        settings = spec.settings
        if facts.mixes_examples and devices > 1:
            raise self._document.error(
                self._place_of_model(spec),
                f"{settings.model} has batch normalisation, whose statistics would differ between the {devices} "
                "devices of a run; train it on one (launch.devices_per_run: 1) or take one with layer or group norm",
            )
        draws = facts.draws or settings.drop_path > 0 or bool(_model_options(settings).get("dropout"))
        if (facts.mixes_examples or draws) and settings.micro_batch == "auto":
            why = "batch normalisation" if facts.mixes_examples else "dropout or stochastic depth"
            raise self._document.error(
                ("defaults", "micro_batch"),
                f"'auto' depends on the memory at hand, and so would the numbers of {settings.model} with {why}; write "
                "the micro-batch as a number",
            )
        if facts.mixes_examples or draws:
            return "micro_batch"
        return "devices" if settings.mixup > 0 or settings.exchange == "bf16" else "no"

    def _check_model(self, spec: RunSpec) -> None:
        """The model's name and options are known to its family."""
        try:
            check_name(spec.settings.model)
            chosen_options(spec.settings.model, _written_options(spec.settings))
        except UserError as error:
            raise self._document.error(self._place_of_model(spec), str(error)) from error

    def _place_of_model(self, spec: RunSpec) -> KeyPath:
        name = spec.settings.model
        for place in (("grid", "model"), ("zip", "model")):
            values = self._document.data.get(place[0], {}).get("model", [])
            if name in values:
                return (*place, values.index(name))
        return (*spec.place, "model") if spec.place != ("grid",) else ("defaults", "model")

    def _image_size(self, spec: RunSpec) -> int:
        model, given = spec.settings.model, spec.settings.image_size
        if given is None and is_timm_name(model):
            raise self._document.error(
                self._place_of_model(spec),
                f"{model} needs defaults.image_size, as only timm knows its size; write defaults: {{image_size: 224}}, "
                "or --set defaults.image_size=224",
            )
        return given or default_image_size(model)

    def _queries(self, specs: Sequence[RunSpec]) -> list[ModelQuery]:
        """What the counts of each run's model depend on. Every model is looked at once: ten thousand runs have few."""
        checked: set[tuple[str, str]] = set()
        queries = []
        for spec in specs:
            name, options = spec.settings.model, canonical_json(_written_options(spec.settings))
            if (name, options) not in checked:
                self._check_model(spec)
                checked.add((name, options))
            options = canonical_json(_model_options(spec.settings))
            queries.append(ModelQuery(name, self._image_size(spec), self._data.train.num_classes, options))
        return queries

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


def divisors(number: int) -> list[int]:
    """In increasing order, found up to the square root."""
    small = [factor for factor in range(1, math.isqrt(number) + 1) if number % factor == 0]
    return sorted({*small, *(number // factor for factor in small)})


def _model_options(settings: RunSettings) -> dict[str, Any]:
    """The options of the model that are not its defaults anyway: what is written out makes no other run."""
    return chosen_options(settings.model, _written_options(settings))


def _written_options(settings: RunSettings) -> dict[str, Any]:
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


def describe_harness() -> HarnessPlan:
    """The code that runs here, as a plan keeps it."""
    return HarnessPlan(**asdict(describe_harness_source()))
