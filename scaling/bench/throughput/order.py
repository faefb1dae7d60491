"""What one measuring process is told to do; no PyTorch here, so that the command answers at once."""

from dataclasses import dataclass

from scaling.records.run_plan import ModelPlan, RecipePlan, RunPlan
from scaling.records.scores.throughput import TimedWork, Work


@dataclass(frozen=True, slots=True)
class Order:
    """One model to be timed."""

    timed: TimedWork
    model: ModelPlan
    recipe: RecipePlan
    """Of the training step."""
    device: str
    """`auto`, `cpu` or `cuda`: of what the process sees, its first."""
    threads: int
    """Of the CPU arithmetic."""
    first_batch: int
    largest_batch: int
    repeats: int
    seconds: float
    """Least length of a repeat."""


def timed_work(plan: RunPlan, work: Work, compile_mode: str | None = None) -> TimedWork:
    """What a run of this plan does, as one thing to be timed; `compile_mode` outweighs the plan's own."""
    model, engine = plan.model, plan.engine
    is_training = work == "training"
    return TimedWork(
        model=model.name,
        image_size=model.image_size,
        num_classes=model.num_classes,
        options=model.options,
        work=work,
        precision=plan.recipe.precision,
        compile_mode=compile_mode or ("default" if engine.compile else "none"),
        channels_last=engine.channels_last,
        optimizer=plan.recipe.optimizer if is_training else "",
        drop_path=model.drop_path if is_training else 0.0,
        activation_checkpointing=engine.activation_checkpointing and is_training,
    )
