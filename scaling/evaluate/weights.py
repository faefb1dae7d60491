"""Weights of any maker: build their model, load them, score or fine-tune them, and record each evaluation as soon as it
is done."""

import hashlib
import logging
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import timm
import torch

from scaling.data.storage.integrity import file_sha256
from scaling.errors import UserError
from scaling.evals.describe import describe_evaluation
from scaling.evals.runner import EvaluationContext, run_evaluation
from scaling.evaluate.architecture import Architecture
from scaling.evaluate.finetuning import WEIGHTS_NAME, OtherWeights, finetune_weights
from scaling.evaluate.weights_records import WeightsRecord, earlier_record, runs_csv
from scaling.models.build import build_model
from scaling.models.cost import count_cost
from scaling.models.networks.vision_model import VisionModel, settle_tf32
from scaling.models.registry import family_of, is_timm_name
from scaling.models.weights.files import HEAD_PREFIXES, load_weights, save_weights
from scaling.records.attempts.provenance import describe_harness_source, describe_packages
from scaling.records.evaluation import Evaluation
from scaling.records.files import content_digest, write_text_atomic
from scaling.records.reading import RecordError
from scaling.records.run_dir import safe_name
from scaling.records.run_plan import EvalPlan
from scaling.records.scores.suites import suite_metrics
from scaling.spec.launch_spec import LaunchSpec
from scaling.train.reporting.hardware import describe_hardware
from scaling.train.reporting.recorder import device_name

logger = logging.getLogger(__name__)

Colour = tuple[float, float, float]

OURS: Colour = (0.5, 0.5, 0.5)
"""Mean and standard deviation by which pixels from 0 to 1 come to lie in [-1, 1]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightsExecution:
    """How weights are scored, and where the records go."""

    out: Path | None
    """None records nothing."""
    num_images: int | None
    """Distinct images that the weights were trained on; None where that is not known."""
    precision: Literal["fp32", "bf16"]
    threads: int | None
    loader_threads: int
    launch: LaunchSpec = field(default_factory=LaunchSpec)
    """How fine-tuning runs are executed."""
    max_parallel: int | None = None


def score_weights(
    source: str, architecture: Architecture, evaluations: Sequence[EvalPlan], execution: WeightsExecution
) -> dict[str, float]:
    """Metrics of all evaluations; those that were recorded before are read back, and those that failed are missing."""
    if execution.threads:
        torch.set_num_threads(execution.threads)
    settle_tf32(execution.precision)
    architecture = _in_its_colours(source, architecture)
    pixels = _colours_of(architecture)
    model = _load(source, architecture)
    digest = _digest_of(model, with_head=architecture.has_head)
    identity = content_digest(
        {
            "weights": digest,
            "model": architecture.name,
            "image_size": architecture.image_size,
            "precision": execution.precision,
            "pixels": pixels,
        }
    )
    folder = execution.out / _folder_name(architecture, digest) if execution.out else None
    if folder is not None:
        _describe(source, architecture, model, pixels, digest, evaluations, execution).save(folder)
    metrics: dict[str, float] = {}
    scored = [plan for plan in evaluations if plan.by == "scoring" or folder is None]
    for number, plan in enumerate(scored, start=1):
        record = earlier_record(folder, plan, identity) if folder is not None else None
        if record is None:
            logger.warning("scoring %s (%d of %d)", plan.name, number, len(scored))
            record = _evaluate(model, architecture, plan, identity, digest, execution)
            if folder is not None:
                record.save(folder)
        metrics |= record.metrics
    if folder is not None:
        metrics |= _finetune(folder, model, architecture, identity, evaluations, execution)
    if execution.out is not None:
        write_text_atomic(execution.out / "runs.csv", runs_csv(execution.out))
    return metrics | suite_metrics(evaluations, metrics)


def _finetune(
    folder: Path,
    model: VisionModel,
    architecture: Architecture,
    identity: str,
    evaluations: Sequence[EvalPlan],
    execution: WeightsExecution,
) -> dict[str, float]:
    """Metrics of the evaluations that are done by further runs."""
    asked = [plan for plan in evaluations if plan.by == "runs"]
    open_ones = [plan for plan in asked if earlier_record(folder, plan, identity) is None]
    if open_ones:
        weights = OtherWeights(
            folder=folder,
            file_sha256=_save(model, folder / WEIGHTS_NAME, with_head=architecture.has_head),
            identity=identity,
            architecture=architecture,
            precision=execution.precision,
        )
        model.cpu()
        torch.cuda.empty_cache()  # The runs may have the memory of this process's device.
        finetune_weights(weights, open_ones, execution.launch, execution.max_parallel)
    found = [earlier_record(folder, plan, identity) for plan in asked]
    return {key: value for one in found if one is not None for key, value in one.metrics.items()}


def _save(model: VisionModel, path: Path, *, with_head: bool) -> str:
    """Write all tensors of a model for runs to start from; the SHA-256 of the file, which follows from what was loaded:
    what was drawn here, a classifier, is written as zeros."""
    state = {
        name: value.detach().cpu().contiguous()
        if with_head or not name.startswith(HEAD_PREFIXES)
        else torch.zeros(value.shape)
        for name, value in model.state_dict().items()
    }
    aside = path.with_name(f"{path.name}.{os.getpid()}")
    save_weights(state, aside, {"format": "pt"})
    aside.replace(path)
    return file_sha256(path)


def _load(source: str, architecture: Architecture) -> VisionModel:
    model = build_model(
        architecture.name,
        num_classes=architecture.num_classes,
        image_size=architecture.image_size,
        options=architecture.options,
    )
    load_weights(model, source, head="load" if architecture.has_head else "keep")
    return model.to(torch.device("cuda" if torch.cuda.is_available() else "cpu"))


def _in_its_colours(source: str, architecture: Architecture) -> Architecture:
    """A model of timm with mean and deviation of the colours that its weights were trained with, as timm says them;
    training here has images in [-1, 1] whatever timm says."""
    options = architecture.options
    if not is_timm_name(architecture.name) or "pixel_mean" in options or _is_ours(source):
        return architecture
    config = timm.get_pretrained_cfg(architecture.name.partition(":")[2])
    if config is None or (tuple(config.mean), tuple(config.std)) == (OURS, OURS):
        return architecture
    return replace(architecture, options={**options, "pixel_mean": list(config.mean), "pixel_std": list(config.std)})


def _colours_of(architecture: Architecture) -> tuple[Colour, Colour]:
    """Mean and deviation of the colours from 0 to 1 that a model was trained with."""
    mean, std = (architecture.options.get(name, OURS) for name in ("pixel_mean", "pixel_std"))
    return tuple(mean), tuple(std)


def _is_ours(source: str) -> bool:
    """Whether training here wrote the file."""
    from safetensors import safe_open

    if not source.endswith(".safetensors"):
        return False
    with safe_open(source, framework="pt") as file:
        return "model" in (file.metadata() or {})


def _describe(
    source: str,
    architecture: Architecture,
    model: VisionModel,
    pixels: tuple[Colour, Colour],
    digest: str,
    evaluations: Sequence[EvalPlan],
    execution: WeightsExecution,
) -> WeightsRecord:
    """What `weights.json` says, with what was asked before."""
    assert execution.out is not None
    try:
        known = WeightsRecord.load(execution.out / _folder_name(architecture, digest))
    except RecordError as error:
        raise UserError(
            f"{error}; remove that file, and name --num-images and all evaluations again: sound records are kept"
        ) from error
    asked = {one.name: one for one in (known.evals if known else ())} | {one.name: one for one in evaluations}
    cost = count_cost(
        architecture.name,
        num_classes=architecture.num_classes,
        image_size=architecture.image_size,
        options=architecture.options,
    )
    return WeightsRecord(
        source=source,
        weights_sha256=digest,
        model=architecture.name,
        family=family_of(architecture.name),
        image_size=architecture.image_size,
        precision=execution.precision,
        pixel_mean=pixels[0],
        pixel_std=pixels[1],
        num_params=model.num_body_params,
        flops_forward_per_image=cost.flops_forward_per_image,
        num_images=execution.num_images or (known.num_images if known else None),
        evals=tuple(asked.values()),
    )


def _evaluate(
    model: VisionModel,
    architecture: Architecture,
    plan: EvalPlan,
    identity: str,
    digest: str,
    execution: WeightsExecution,
) -> Evaluation:
    device = next(model.parameters()).device
    context = EvaluationContext(
        device, execution.precision, architecture.image_size, execution.loader_threads, architecture.input
    )
    started = time.perf_counter()
    metrics = run_evaluation(model, plan, context)
    harness = describe_harness_source()
    return Evaluation(
        run_id=_folder_name(architecture, digest),
        identity=identity,
        **describe_evaluation(plan),
        weights_sha256=digest,
        metrics=metrics,
        device=device_name(device),
        num_devices=1,
        precision=execution.precision,
        threads=torch.get_num_threads(),
        hardware=describe_hardware(),
        packages=describe_packages(),
        version=harness.version,
        git_commit=harness.git_commit,
        git_dirty=harness.git_dirty,
        seconds=time.perf_counter() - started,
    )


def _folder_name(architecture: Architecture, digest: str) -> str:
    model = architecture.name.replace("/", "").replace(":", "-")
    return safe_name(f"{model}_{architecture.image_size}px-{digest[:8]}", "weights")


def _digest_of(model: VisionModel, *, with_head: bool) -> str:
    """SHA-256 of the tensors that were loaded, by name."""
    state = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        if with_head or not name.startswith("head."):
            state.update(name.encode() + b"\0")
            state.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return state.hexdigest()
