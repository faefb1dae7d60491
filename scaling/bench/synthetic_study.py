"""A finished study on disk, made through the record classes, whose true learning curves are known.

error(n) = floor + scale * (n / 1000) ** -exponent, in accuracy plus a normal seed effect, so that every number that
the analysis prints can be compared with the truth. Nothing is flushed to the disk: a thousand runs of a thousand rows
are made in about half a minute.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from scaling.records.evaluation import Evaluation
from scaling.records.events import Event
from scaling.records.frozen_sweep import write_sweep
from scaling.records.identity import identity_of, run_name
from scaling.records.reading import sealed_text
from scaling.records.result import RunResult
from scaling.records.run_dir import RunDir
from scaling.records.run_plan import (
    EnginePlan,
    EvalPlan,
    HarnessPlan,
    IntervalPlan,
    ModelPlan,
    RecipePlan,
    RunPlan,
    SchedulePlan,
    SourcePlan,
    SubsetPlan,
    content_digest,
)
from scaling.records.state import RunState
from scaling.records.study import save_plan_order

METRIC = "unseen/5shot_top1"

WEIGHTS = "0" * 64
"""Digest of weights that no run here has."""


RECIPE = RecipePlan(
    optimizer="adam",
    learning_rate=1e-3,
    end_learning_rate=1e-5,
    weight_decay=0.1,
    head_weight_decay=0.1,
    decay_scope="kernels",
    momentum=0.0,
    beta1=0.9,
    beta2=0.999,
    clip=1.0,
    loss="sigmoid",
    label_smoothing=0.0,
    augment="inception",
    precision="fp32",
)
"""Of every run."""


@dataclass(frozen=True)
class Truth:
    """The curve of one model and what it costs."""

    floor: float
    scale: float
    exponent: float
    images_per_second: float
    num_body_params: int
    gflops_forward: float

    def accuracy(self, num_images: float) -> float:
        return 1 - self.floor - self.scale * (num_images / 1000) ** -self.exponent


TRUTHS: Mapping[str, Truth] = {
    "mixer-b/32": Truth(0.44, 0.105, 0.75, 4200, 59_524_428, 6.5),
    "mixer-l/32": Truth(0.32, 0.190, 0.65, 1310, 205_914_264, 22.5),
    "mixer-l/16": Truth(0.25, 0.215, 0.65, 420, 207_171_168, 89.1),
    "vit-b/32": Truth(0.43, 0.100, 0.75, 2860, 87_455_232, 8.8),
    "vit-l/32": Truth(0.32, 0.160, 0.65, 910, 305_510_400, 30.8),
    "vit-l/16": Truth(0.26, 0.180, 0.65, 280, 303_301_632, 123.1),
    "bit-r152x2": Truth(0.30, 0.075, 0.85, 356, 232_238_208, 112.6),
}
FRACTIONS = (0.03, 0.1, 0.3, 1.0)


def make_study(
    root: Path,
    *,
    name: str = "data_size",
    models: Sequence[str] = tuple(TRUTHS),
    fractions: Sequence[float] = FRACTIONS,
    seeds: Sequence[int] = (0, 1, 2),
    full_size: int = 10_000,
    noise: float = 0.006,
    device: str = "Test CPU",
    num_rows: int = 10,
    truths: Mapping[str, Truth] = TRUTHS,
    protocol: str = "constant_steps",
    steps: int = 500,
) -> Path:
    """Write RUNS/<name> with every combination finished; returns the study folder."""
    study_dir = root / name
    study_dir.mkdir(parents=True)
    write_sweep(study_dir, f"study: {name}\n")
    run_ids = []
    for model in models:
        for fraction in fractions:
            for seed in seeds:
                plan = make_plan(name, model, truths[model], fraction, seed, full_size, protocol, steps)
                run_ids.append(plan.run_id)
                finish_run(study_dir / plan.run_id, plan, truths[model], noise, device, num_rows)
    save_plan_order(study_dir, run_ids)
    return study_dir


def make_plan(
    study: str,
    model: str,
    truth: Truth,
    fraction: float,
    seed: int,
    full_size: int,
    protocol: str,
    steps: int,
) -> RunPlan:
    num_samples = round(fraction * full_size)
    family = model.split("-")[0]
    source = SourcePlan(
        manifest="/data/train/manifest.json",
        digest=content_digest(["train", full_size]),
        label_type="multi",
        num_classes=100,
        num_samples=full_size,
    )
    batch = 64
    forward = truth.gflops_forward * 1e9
    plan = RunPlan(
        study=study,
        run_id="",
        identity="",
        seed=seed,
        model=ModelPlan(
            name=model,
            family=family,
            image_size=224,
            num_classes=100,
            head_bias=-4.6,
            drop_path=0.0,
            num_params=truth.num_body_params + 100_000,
            num_body_params=truth.num_body_params,
            flops_forward_per_image=forward,
            flops_train_per_image=3 * forward,
        ),
        train=source,
        val=source.model_copy(
            update={
                "manifest": "/data/val/manifest.json",
                "digest": content_digest("val"),
                "num_samples": 500,
            }
        ),
        subset=SubsetPlan(
            fraction=fraction, seed=seed, num_samples=num_samples, digest=content_digest([fraction, seed])
        ),
        schedule=SchedulePlan(
            protocol=protocol,
            batch=batch,
            steps=steps,
            epochs=steps * batch / num_samples,
            warmup_steps=10,
            decay="linear",
        ),
        recipe=RECIPE,
        intervals=IntervalPlan(log_steps=10, validate_steps=50, checkpoint_steps=50, keep_checkpoints=2),
        engine=EnginePlan(num_devices=1, micro_batch=batch, zero_stage=0),
        evals=(EvalPlan(kind="fewshot", name="unseen"), EvalPlan(kind="throughput", name="throughput")),
        harness=HarnessPlan(version="0.1.0", git_commit="0" * 40, git_dirty=False),
    )
    return named(plan)


def finish_run(run_dir: Path, plan: RunPlan, truth: Truth, noise: float, device: str, num_rows: int) -> RunResult:
    """Write plan, events, state and result of a run that went well."""
    folder = RunDir(run_dir)
    folder.evals.mkdir(parents=True)
    folder.plan.write_text(sealed_text(plan), encoding="utf-8")
    drawn_by = [plan.model.name, plan.subset.fraction, plan.seed, plan.train.num_samples]
    seed = content_digest([*drawn_by, plan.schedule.protocol, plan.schedule.steps])
    draw = np.random.default_rng(int(seed[:8], 16))
    accuracy = float(np.clip(truth.accuracy(plan.subset.num_samples) + noise * draw.standard_normal(), 0, 1))
    steps, batch = plan.schedule.steps, plan.schedule.batch
    flops = plan.model.flops_train_per_image * batch * steps
    seconds = 3 * batch * steps / truth.images_per_second
    lines = []
    for row in range(num_rows + 1):
        share = row / num_rows
        step = round(share * steps)
        is_last = row == num_rows
        validates = row > 0 and (row % 5 == 0 or is_last)
        metrics = {"upstream/loss": 2.0 - share, "upstream/precision_at_1": accuracy * share} if validates else {}
        if row > 0 and (is_last or not validates):
            metrics["loss"] = 2.0 - share - 0.1 * share * plan.subset.fraction**-0.5 * truth.scale / 0.1
        event = Event(
            run_id=plan.run_id,
            attempt=1,
            kind="start" if row == 0 else "eval" if validates else "step",
            step=step,
            examples_seen=step * batch,
            unique_examples=min(step * batch, plan.subset.num_samples),
            flops=share * flops,
            train_seconds=share * seconds,
            pause_seconds=0.1 * share,
            device=device,
            num_devices=1,
            precision="fp32",
            metrics=metrics,
        )
        lines.append(event.to_line())
    folder.events.write_bytes(b"".join(lines))
    result = RunResult(
        run_id=plan.run_id,
        identity=plan.identity,
        attempts=1,
        metrics={
            "upstream/precision_at_1": min(1.0, 0.9 * accuracy),
            "upstream/loss": 2.0 - accuracy,
            "train/precision_at_1": min(1.0, 0.9 * accuracy + 0.05 / plan.subset.fraction**0.3),
            "train/loss": 1.8 - accuracy,
        },
        weights_sha256=WEIGHTS,
        best_step=steps,
        steps=steps,
        examples_seen=steps * batch,
        unique_examples=min(steps * batch, plan.subset.num_samples),
        flops=flops,
        train_seconds=seconds,
        pause_seconds=0.1,
        device_hours=(seconds + 0.1) / 3600,
        images_per_second=batch * steps / seconds,
        device=device,
        num_devices=1,
        precision="fp32",
        threads=1,
        hardware={"cpu": device},
        packages={"torch": "2.0"},
        git_commit="0" * 40,
        git_dirty=False,
    )
    folder.result.write_text(sealed_text(result), encoding="utf-8")
    speed = truth.images_per_second * float(np.exp(0.02 * draw.standard_normal()))
    found = {
        "unseen": {METRIC: accuracy, "unseen/10shot_top1": min(1.0, accuracy + 0.03)},
        "throughput": {"throughput/images_per_second": speed},
    }
    for asked in plan.evals:
        record = evaluation_of(plan, asked, found[asked.name], device)
        folder.evaluation(asked.name).write_text(sealed_text(record), encoding="utf-8")
    folder.state.write_text(RunState(status="done", attempt=1, step=steps).to_text(), encoding="utf-8")
    return result


def evaluation_of(plan: RunPlan, asked: EvalPlan, metrics: Mapping[str, float], device: str) -> Evaluation:
    """The record of a planned evaluation that found `metrics`."""
    return Evaluation(
        run_id=plan.run_id,
        identity=plan.identity,
        name=asked.name,
        kind=asked.kind,
        digest=asked.digest(),
        weights_sha256=WEIGHTS,
        metrics=dict(metrics),
        device=device,
        num_devices=1,
        precision="fp32",
        threads=1,
        packages={"torch": "2.0"},
        version="0.1.0",
        git_commit="0" * 40,
        git_dirty=False,
        seconds=1.0,
    )


def named(plan: RunPlan) -> RunPlan:
    """The plan with the identity and the name that follow from its content."""
    identity = identity_of(plan)
    run_id = run_name(plan.model.name, plan.subset.fraction, plan.seed, {}, identity)
    return plan.model_copy(update={"run_id": run_id, "identity": identity})
