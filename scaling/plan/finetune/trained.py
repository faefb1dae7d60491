"""Weights that are fine-tuned: those that a run of a study has kept, or those of another maker."""

from dataclasses import dataclass
from typing import Literal, Self

from scaling.records.run_plan import EnginePlan, InputPlan, ModelPlan, RunPlan


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """What fine-tuning has to know of weights, and how the runs that start from them are executed."""

    run_id: str
    """Of the run that trained them; of other weights, the name of their folder of scores. Ends in a digest."""
    identity: str
    """What their records carry."""
    weights: str
    """Where they lie, relative to the folder in which the fine-tuning runs are made."""
    model: ModelPlan
    input: InputPlan
    precision: Literal["fp32", "bf16"]
    engine: EnginePlan
    batch: int
    """Examples per optimiser step that `engine` was planned for."""
    version: str
    """Of the harness that planned it."""

    @property
    def stem(self) -> str:
        """The readable part of `run_id`."""
        return self.run_id.rpartition("-")[0]

    @classmethod
    def by(cls, plan: RunPlan) -> Self:
        """What a run of the same study keeps."""
        return cls(
            run_id=plan.run_id,
            identity=plan.identity,
            weights=f"{plan.run_id}/checkpoints/best/model.safetensors",
            model=plan.model,
            input=plan.input,
            precision=plan.recipe.precision,
            engine=plan.engine,
            batch=plan.schedule.batch,
            version=plan.harness.version,
        )
