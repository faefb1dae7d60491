"""Fine-tuning that is asked for afterwards, of the runs of a study or of weights of any maker.

Planned and executed as a launcher does it after pre-training: by runs of their own, on any back end, which are resumed
after a kill and done once. Those of a study's runs lie in the study's folder, those of other weights in their folder of
scores, and so do the records. No PyTorch here.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from scaling import __version__
from scaling.evaluate.architecture import Architecture
from scaling.launch.backends.base import Resources, check_choice, make_backend
from scaling.launch.graph.finetuning import finetuning_follow_up, weights_follow_up
from scaling.launch.graph.study_graph import FollowUp, StudyGraph
from scaling.launch.study_dir import PlannedRun, find_standings
from scaling.launch.watch import Watch
from scaling.models.registry import family_of
from scaling.plan.count_models import count_models
from scaling.plan.finetune.planner import FineTunePlanner
from scaling.plan.finetune.trained import Trained
from scaling.plan.planner import Planner
from scaling.plan.zoo_counts import ModelQuery
from scaling.records.files import canonical_json
from scaling.records.run_plan import EnginePlan, EvalPlan, ModelPlan, RunPlan
from scaling.spec.document import Document
from scaling.spec.duration import Duration
from scaling.spec.launch_spec import LaunchSpec
from scaling.spec.study import ConstantSteps, DataSpec, Study

WEIGHTS_NAME = "weights.safetensors"
"""Of weights of other makers, in their folder of scores."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherWeights:
    """Weights of any maker, saved for runs to start from."""

    folder: Path
    """Of their scores, where `weights.safetensors` lies."""
    file_sha256: str
    """Of that file."""
    identity: str
    """What their records carry."""
    architecture: Architecture
    precision: Literal["fp32", "bf16"]

    def described(self, num_devices: int) -> Trained:
        """As fine-tuning sees them; micro-batches are what memory holds."""
        model = self.architecture
        query = ModelQuery(model.name, model.image_size, model.num_classes, canonical_json(model.options))
        facts = count_models([query])[query]
        return Trained(
            run_id=self.folder.name,
            identity=self.identity,
            weights=WEIGHTS_NAME,
            model=ModelPlan(
                name=model.name,
                family=family_of(model.name),
                image_size=model.image_size,
                num_classes=model.num_classes,
                options=model.options,
                head_bias=0.0,
                drop_path=0.0,
                num_params=facts.num_params,
                num_body_params=facts.num_body_params,
                flops_forward_per_image=facts.flops_forward_per_image,
                flops_train_per_image=facts.flops_train_per_image,
            ),
            input=model.input,
            precision=self.precision,
            engine=EnginePlan(num_devices=num_devices, micro_batch=1, auto_micro_batch=True, zero_stage=0),
            batch=1,
            version=__version__,
        )


def finetune_weights(
    weights: OtherWeights, evaluations: Sequence[EvalPlan], launch: LaunchSpec, max_parallel: int | None
) -> None:
    """Fine-tune other weights in their folder, and record each evaluation there; what fails is told."""
    trained = weights.described(launch.devices)
    follow_ups = [
        weights_follow_up(job, weights.file_sha256)
        for evaluation in evaluations
        for job in _planner(trained.run_id, evaluation, launch).plan_pairs([(trained, evaluation)])
    ]
    execute(weights.folder, [], follow_ups, launch, max_parallel)


def follow_runs(plans: Sequence[RunPlan], evaluations: Sequence[EvalPlan], launch: LaunchSpec) -> list[FollowUp]:
    """What follows these runs of one study for these fine-tunings."""
    return [
        finetuning_follow_up(job)
        for evaluation in evaluations
        for job in _planner(plans[0].study, evaluation, launch).plan_pairs(
            (Trained.by(plan), evaluation) for plan in plans
        )
    ]


def execute(
    study_dir: Path,
    runs: Sequence[PlannedRun],
    follow_ups: Sequence[FollowUp],
    launch: LaunchSpec,
    max_parallel: int | None,
) -> None:
    """Do what is open of these runs and all that follows from them; what fails, and what is found, is told."""
    check_choice(launch)
    backend = make_backend(launch)
    backend.check(Resources.of(launch))
    graph = StudyGraph(study_dir, runs, follow_ups)
    if any(run.standing.is_alive or not run.standing.has_ended for run in graph.runs()):
        Watch(backend, graph, study_dir, cap=max_parallel, retries=launch.retries).run()
    for note in graph.notes():
        print(note, file=sys.stderr)
    for run in find_standings(study_dir, [run.plan for run in graph.runs()]):
        if not run.standing.is_finished and run.plan.run_id not in graph.answered:
            print(run.complaint(run.standing.told), file=sys.stderr)


def _planner(name: str, evaluation: EvalPlan, launch: LaunchSpec) -> FineTunePlanner:
    """The planner of a study that has no runs but those of one fine-tuning."""
    study = Study(
        study=name,
        data=DataSpec(train=evaluation.sources["train"].manifest, val=evaluation.sources["test"].manifest),
        protocol=ConstantSteps(kind="constant_steps", steps=Duration(1.0, "steps"), batch=1),
        launch=launch,
    )
    document = Document(Path(f"--eval {evaluation.name}"), {})
    return FineTunePlanner(Planner(study, document), study, document)
