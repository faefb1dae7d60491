"""Fine-tuning runs from trained weights: which runs try the rates, and which give the score.

Every run is an ordinary one, whose plan names the weights it starts from. It is scored once, after its last step, as
the papers do: on the images that are held out while rates are tried, and on the test set afterwards; no step is chosen
by its score.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from scaling.errors import UserError
from scaling.evals.finetune_settings import FineTuneSettings
from scaling.models.resolution import options_at, options_for_transfer
from scaling.plan.finetune.check import num_dev_images
from scaling.plan.finetune.data import all_but, median_area, part_held_out
from scaling.plan.finetune.trained import Trained
from scaling.plan.finetune.values import FineTuneValues, finetune_values, needs_area
from scaling.plan.planner import Planner, RunData, divisors
from scaling.plan.zoo_counts import ModelFacts, ModelQuery
from scaling.records.identity import identity_of
from scaling.records.run_plan import DevPlan, EvalPlan, RunPlan, StartPlan, canonical_json
from scaling.spec.document import Document, KeyPath
from scaling.spec.duration import Duration
from scaling.spec.finetune_recipe import recipe_for
from scaling.spec.settings import RunSettings
from scaling.spec.study import ConstantSteps, Study
from scaling.spec.sweep import RunSpec

NOT_YET_KNOWN = "0" * 64
"""Digest of weights that are yet to be trained, in plans that are made for their price alone."""


@dataclass(frozen=True, slots=True)
class FineTuning:
    """One planned evaluation of weights."""

    planner: Planner
    trained: Trained
    evaluation: EvalPlan
    settings: FineTuneSettings
    recipe: str
    values: FineTuneValues
    query: ModelQuery
    facts: ModelFacts
    part: tuple[RunData, DevPlan | None] | None
    """Data while rates are tried, and what of it is held out to choose on, where that is no data set of its own; None
    for a single rate, which needs no choice."""

    @property
    def name(self) -> str:
        """`flowers of mixer-b32_…`"""
        return f"{self.evaluation.name} of {self.trained.run_id}"

    def trials(self, weights_sha256: str) -> dict[float, RunPlan]:
        """One run per rate, by rate, trained without the held-out images and scored on them."""
        if self.part is None:
            return {}
        data, dev = self.part
        seed = self.settings.seeds[0]
        return {
            rate: self._plan(data, rate, seed, weights_sha256, f"rate{rate:g}", dev)
            for rate in self.values.learning_rates
        }

    def finals(self, weights_sha256: str, rate: float) -> dict[int, RunPlan]:
        """One run per seed, by seed, trained on all images and scored on the test set."""
        train = self.evaluation.sources["train"]
        data = RunData(train, self.evaluation.sources["test"], all_but(self.planner.data.manifest_of(train)))
        return {seed: self._plan(data, rate, seed, weights_sha256, f"seed{seed}") for seed in self.settings.seeds}

    def foreseen(self) -> tuple[RunPlan, ...]:
        """As many runs of such a length as will follow, for their price."""
        finals = self.finals(NOT_YET_KNOWN, self.values.learning_rates[0])
        return (*self.trials(NOT_YET_KNOWN).values(), *finals.values())

    def _plan(
        self, data: RunData, rate: float, seed: int, weights_sha256: str, told: str, dev: DevPlan | None = None
    ) -> RunPlan:
        values, trained = self.values, self.trained
        protocol = ConstantSteps(
            kind="constant_steps", steps=Duration(float(values.steps), "steps"), batch=values.batch
        )
        spec = RunSpec(RunSettings(**self._run_settings(rate, seed)), protocol, {}, ("evals",))
        start = StartPlan(
            run_id=trained.run_id,
            weights=trained.weights,
            sha256=weights_sha256,
            model=trained.model,
        )
        plan = self.planner.assemble(spec, self.facts, data).model_copy(
            update={"start": start, "dev": dev, "val_view": values.view, "serves": self.name, "input": trained.input}
        )
        identity = identity_of(plan)
        run_id = f"{trained.stem}_{self.evaluation.name}-{values.resolution}px-{told}-{identity[:8]}"
        return plan.model_copy(update={"run_id": run_id, "identity": identity})

    def _run_settings(self, rate: float, seed: int) -> dict[str, Any]:
        """The recipe's, those of this fine-tuning, and what says how the pre-training run is executed."""
        values, trained = self.values, self.trained
        return {
            **values.recipe.settings,
            "model": trained.model.name,
            "image_size": values.resolution,
            "model_options": {name: value for name, value in self._options().items() if name != "dropout"},
            "seed": seed,
            "learning_rate": rate,
            "warmup": values.warmup_steps,
            "decay_at": values.decay_at,
            "augment": values.augment,
            "crop_from": values.crop_from,
            "mixup": values.mixup,
            "precision": trained.precision,
            "zero_stage": trained.engine.zero_stage,
            # One device exchanges nothing; pre-training may have had more.
            "overlap_comm": trained.engine.overlap_comm and self.planner.num_devices > 1,
            "activation_checkpointing": trained.engine.activation_checkpointing,
            "channels_last": trained.engine.channels_last,
            "deterministic": trained.engine.deterministic,
            "compile": trained.engine.compile,
            "micro_batch": self._micro_batch(),
            "validate_every": "100%",
        }

    def _options(self) -> dict[str, Any]:
        model = self.trained.model
        return options_at(
            model.name, options_for_transfer(model.name, model.options), model.image_size, self.values.resolution
        )

    def _micro_batch(self) -> int | str:
        """As many examples at once as in pre-training, fewer where images are larger."""
        engine, trained_at = self.trained.engine, self.trained.model.image_size
        share = self.values.batch // engine.num_devices
        if engine.auto_micro_batch:
            # What memory decides must not change the numbers.
            return share if self.facts.mixes_examples or self.facts.draws else "auto"
        growth = max(1.0, (self.values.resolution / trained_at) ** 2)
        is_whole = engine.micro_batch * engine.num_devices == self.trained.batch
        limit = share if is_whole else max(1, int(engine.micro_batch / growth))
        return max(size for size in divisors(share) if size <= limit)


class FineTunePlanner:
    """The fine-tunings that a study asks for."""

    def __init__(self, planner: Planner, study: Study, document: Document) -> None:
        self._planner, self._study, self._document = planner, study, document
        self._areas: dict[str, float] = {}

    def plan(self, runs: Iterable[RunPlan]) -> list[FineTuning]:
        """Every fine-tuning of those of these runs that are points, in their order; UserError, with its place in the
        sweep, for the first that cannot be done."""
        return self.plan_pairs(
            (Trained.by(run), evaluation)
            for run in runs
            if run.is_point
            for evaluation in run.evals
            if evaluation.kind == "finetune"
        )

    def plan_pairs(self, asked: Iterable[tuple[Trained, EvalPlan]]) -> list[FineTuning]:
        """The same for any weights."""
        settled = [self._settle(trained, evaluation) for trained, evaluation in asked]
        facts = self._planner.count(query for *_, query in settled)
        return [
            FineTuning(self._planner, trained, evaluation, settings, recipe, values, query, facts[query], part)
            for trained, evaluation, settings, recipe, values, part, query in settled
        ]

    def _settle(self, trained: Trained, evaluation: EvalPlan) -> "_Settled":
        try:
            return self._settled(trained, evaluation)
        except UserError as error:
            raise self._document.error(self._place_of(evaluation), str(error)) from error

    def _place_of(self, evaluation: EvalPlan) -> KeyPath:
        """Where an evaluation, or the suite that it is a member of, is asked for."""
        wanted = evaluation.suite.name if evaluation.suite else evaluation.name
        for position, spec in enumerate(self._study.evals):
            if wanted in (spec.name, spec.kind, (spec.model_extra or {}).get("suite")):
                return ("evals", position)
        return ("evals",) if self._study.evals else ()

    def _settled(self, trained: Trained, evaluation: EvalPlan) -> "_Settled":
        settings = FineTuneSettings.model_validate(
            {name: value for name, value in evaluation.settings.items() if name != "recipes"}
        )
        model = trained.model
        recipe = recipe_for(settings.recipe, model.family)
        train = evaluation.sources["train"]
        values = finetune_values(
            recipe,
            settings,
            model=model.name,
            trained_at=model.image_size,
            num_images=train.num_samples,
            area=self._area(evaluation, settings) if needs_area(recipe) else None,
        )
        options = options_at(
            model.name, options_for_transfer(model.name, model.options), model.image_size, values.resolution
        )
        if trained.input.permute != "none" and values.resolution != model.image_size:
            raise UserError(
                f"resolution = {values.resolution}: {trained.run_id} was trained on permuted pixels at "
                f"{model.image_size} px, which no other resolution has; write resolution: {model.image_size}"
            )
        self._check_batch(values)
        part = self._part(evaluation, settings, values) if len(values.learning_rates) > 1 else None
        query = ModelQuery(model.name, values.resolution, train.num_classes, canonical_json(options))
        return trained, evaluation, settings, recipe, values, part, query

    def _part(
        self, evaluation: EvalPlan, settings: FineTuneSettings, values: FineTuneValues
    ) -> tuple[RunData, DevPlan | None]:
        if "dev" in evaluation.sources:
            tried, chosen = evaluation.sources["dev_train"], evaluation.sources["dev"]
            return RunData(tried, chosen, all_but(self._planner.data.manifest_of(tried))), None
        train = evaluation.sources["train"]
        count, problem = num_dev_images(train.num_samples, values.dev_share, train.manifest)
        if problem:
            raise UserError(problem)
        subset, dev = part_held_out(self._planner.data.manifest_of(train), count, settings.dev_seed)
        return RunData(train, train, subset), dev

    def _check_batch(self, values: FineTuneValues) -> None:
        devices = self._study.launch.devices
        if values.batch % devices or (values.mixup and values.batch // devices % 2):
            pairs = " in pairs (mixup)" if values.mixup else ""
            raise UserError(
                f"batch = {values.batch} does not divide{pairs} over launch.devices_per_run = {devices} devices; write "
                f"for example batch: {2 * devices * max(1, round(values.batch / (2 * devices)))}"
            )

    def _area(self, evaluation: EvalPlan, settings: FineTuneSettings) -> float:
        """Pixels of a training image."""
        if settings.image_area is not None:
            return settings.image_area
        train = evaluation.sources["train"]
        if train.manifest not in self._areas:
            self._areas[train.manifest] = median_area(self._planner.data.manifest_of(train), train.manifest)
        return self._areas[train.manifest]


_Settled = tuple[
    Trained,
    EvalPlan,
    FineTuneSettings,
    str,
    FineTuneValues,
    tuple[RunData, DevPlan | None] | None,
    ModelQuery,
]
