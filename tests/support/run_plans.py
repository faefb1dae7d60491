"""Run plans made by hand, for tests that need no data and no model."""

from scaling.bench.synthetic_study import RECIPE, named
from scaling.records.run_plan import (
    EnginePlan,
    HarnessPlan,
    IntervalPlan,
    ModelPlan,
    RunPlan,
    SchedulePlan,
    SourcePlan,
    SubsetPlan,
)


def run_plan(
    *,
    model: str = "mixer-b/32",
    fraction: float = 0.1,
    seed: int = 0,
    steps: int = 100,
    flops: float = 1e6,
    manifest: str = "/data/train.json",
    digest: str = "aa",
    learning_rate: float = 1e-3,
    num_devices: int = 1,
) -> RunPlan:
    """A plan on 10,000 images whose identity is computed as planning does."""
    source = SourcePlan(manifest=manifest, digest=digest, label_type="multi", num_classes=10, num_samples=10_000)
    num_samples = round(fraction * 10_000)
    subset = SubsetPlan(fraction=fraction, seed=seed, num_samples=num_samples, digest=f"{fraction}-{seed}")
    model_plan = ModelPlan(
        name=model,
        family=model.partition("-")[0],
        image_size=32,
        num_classes=10,
        head_bias=-2.3,
        drop_path=0.0,
        num_params=1000,
        num_body_params=900,
        flops_forward_per_image=flops / 3,
        flops_train_per_image=flops,
    )
    schedule = SchedulePlan(
        protocol="constant_steps",
        batch=32,
        steps=steps,
        epochs=steps * 32 / num_samples,
        warmup_steps=2,
        decay="linear",
    )
    recipe = RECIPE.model_copy(update={"learning_rate": learning_rate})
    engine = EnginePlan(num_devices=num_devices, micro_batch=32, zero_stage=0)
    plan = RunPlan(
        study="test",
        run_id="",
        identity="",
        seed=seed,
        model=model_plan,
        train=source,
        val=source,
        subset=subset,
        schedule=schedule,
        recipe=recipe,
        intervals=IntervalPlan(log_steps=2, validate_steps=10, checkpoint_steps=10, keep_checkpoints=2),
        engine=engine,
        evals=(),
        harness=HarnessPlan(version="0", git_commit="", git_dirty=False),
    )
    return named(plan)
