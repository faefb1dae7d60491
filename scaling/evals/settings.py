"""Which evaluations exist, and the settings of each. No torch here, so that planning can check a sweep."""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from scaling.evals.finetune_settings import FineTuneSettings, Once, finetune_metrics
from scaling.installed import Extensible
from scaling.records.run_plan import EvalPlan, Frozen

Positive = Annotated[int, Field(gt=0, le=1_000_000)]


class FewShotSettings(Frozen):
    """Linear few-shot probe, as big_vision's `fewshot_lsr` evaluates Mixer and ViT."""

    shots: Annotated[tuple[Positive, ...], Field(min_length=1), Once] = Field(
        (5,), description="Numbers of support images per class."
    )
    support_seeds: Annotated[tuple[Annotated[int, Field(ge=0, lt=2**63)], ...], Field(min_length=1), Once] = Field(
        (0, 1, 2), description="Seeds of the support draw; the score is the mean over them."
    )
    l2: Annotated[float, Field(gt=0)] = Field(1024.0, description="Ridge penalty; big_vision's constant is 2^10.")
    batch: Positive = Field(256, description="Images per forward pass.")


def fewshot_metrics(settings: FewShotSettings) -> tuple[str, ...]:
    """What `scaling.evals.fewshot.evaluate` returns."""
    return tuple(
        f"{shots}shot_top1{seed}"
        for shots in settings.shots
        for seed in ("", *(f"_seed{seed}" for seed in settings.support_seeds))
    )


class FewShot2021Settings(Frozen):
    """The linear probe of 2020-21: the first images of each class; the penalty, of 2^-10 to 2^19, is chosen on held-out
    support images, never on the test set."""

    shots: Annotated[tuple[Annotated[int, Field(ge=2)], ...], Field(min_length=1), Once] = Field(
        (5,), description="Numbers of support images per class; two or more, so that one can be held out."
    )
    batch: Positive = Field(256, description="Images per forward pass.")


def fewshot_2021_metrics(settings: FewShot2021Settings) -> tuple[str, ...]:
    """What `scaling.evals.fewshot.evaluate_2021` returns."""
    return tuple(f"{shots}shot_{what}" for shots in settings.shots for what in ("top1", "log2_l2"))


class ThroughputSettings(Frozen):
    """Inference speed on random images: the best of several batch sizes, as the Mixer paper measures it."""

    batch_sizes: Annotated[tuple[Positive, ...], Field(min_length=1), Once] = Field(
        (32, 128, 512), description="Batch sizes tried; the fastest counts."
    )
    repeats: Annotated[int, Field(ge=2, le=10_000)] = Field(
        5, description="Timings per batch size; their median counts."
    )
    seconds: Annotated[float, Field(gt=0, le=3600)] = Field(0.5, description="Least length of one timing.")


def throughput_metrics(settings: ThroughputSettings) -> tuple[str, ...]:
    """What `scaling.evals.throughput.evaluate` returns."""
    return ("images_per_second", "images_per_second_low", "images_per_second_high", "batch")


class UpstreamSettings(Frozen):
    """The classifier of pre-training on held-out images of its classes: accuracy, loss and calibration."""

    loss: Literal["softmax", "sigmoid"] | None = Field(
        None, description="What the model was trained by; default: softmax for single-label data, sigmoid for multi."
    )
    batch: Positive = Field(256, description="Images per forward pass.")


def upstream_metrics(settings: UpstreamSettings) -> tuple[str, ...]:
    """What `scaling.evals.upstream.evaluate` returns."""
    return ("precision_at_1", "top1", "top5", "loss", "calibration_error", "mean_confidence")


class LabelSetSettings(Frozen):
    """Accuracy against sets of right labels, such as ImageNet-ReaL; images without a right label are skipped."""

    labels: str = Field("imagenet-real", description="JSON file of label sets, or imagenet-real, which timm ships.")
    labels_path: str = ""
    """Of the file; filled in by planning, like the next two."""
    labels_sha256: str = ""
    labels_by: Literal["", "position", "key", "validation_number"] = ""
    """How a set is found for an image."""
    batch: Positive = Field(256, description="Images per forward pass.")


def label_set_metrics(settings: LabelSetSettings) -> tuple[str, ...]:
    """What `scaling.evals.label_sets.evaluate` returns."""
    return ("top1", "original_top1", "num_scored", "num_empty")


class EvaluationKind(Frozen):
    """One evaluator: its settings, the data it needs, and the function that computes it."""

    settings: type[Frozen]
    sources: tuple[str, ...]
    """Roles of the manifests that a sweep must name for it."""
    optional_sources: tuple[str, ...] = ()
    """Roles of manifests that a sweep may name besides."""
    function: str
    """`package.module:function`, imported when it is computed; see `scaling.evals.runner.Evaluator`. Empty where
    further runs give the numbers."""
    metrics: Callable[[Any], tuple[str, ...]] | None = None
    """Names of all that it measures with such settings, so that planning can refuse others; None: not known before."""
    by: Literal["scoring", "runs"] = "scoring"
    """Whether a run scores its kept weights itself, or further runs that start from them give the numbers."""
    protocol: str = ""
    """What is followed, in words; stands in every record."""
    version: Annotated[int, Field(ge=1)] = 1
    """To be raised when the same settings give other numbers, which makes earlier records history."""
    default_name: str = ""
    """Of an evaluation without a name of its own; empty: its kind."""
    settle: str = ""
    """`package.module:function` that completes the settings, a dict, from files relative to a folder, the second
    argument; empty for none."""
    settled: tuple[str, ...] = ()
    """Settings that only `settle` fills in: unknown keys to a user."""
    is_shared: bool = False
    """Whether all processes of a run take part; else the first computes it alone."""
    uses_classifier: bool = False
    """Whether it scores the classifier of pre-training, so that `test` has to have the classes that are trained on."""


_OWN: dict[str, EvaluationKind] = {
    "fewshot": EvaluationKind(
        settings=FewShotSettings,
        sources=("support", "test"),
        function="scaling.evals.fewshot:evaluate",
        metrics=fewshot_metrics,
        protocol="linear few-shot probe of big_vision's fewshot_lsr: seeded support, one fixed penalty",
        is_shared=True,
    ),
    "fewshot_2021": EvaluationKind(
        settings=FewShot2021Settings,
        sources=("support", "test"),
        function="scaling.evals.fewshot:evaluate_2021",
        metrics=fewshot_2021_metrics,
        protocol="linear few-shot probe of 2020-21: first images of each class, penalty chosen on held-out support",
        is_shared=True,
    ),
    "upstream": EvaluationKind(
        settings=UpstreamSettings,
        sources=("test",),
        function="scaling.evals.upstream:evaluate",
        metrics=upstream_metrics,
        protocol="classifier of pre-training: precision@1, top-5, loss; calibration error of the top label, 15 bins of "
        "equal width",
        default_name="held-out",
        is_shared=True,
        uses_classifier=True,
    ),
    "real": EvaluationKind(
        settings=LabelSetSettings,
        sources=("test",),
        function="scaling.evals.label_sets:evaluate",
        metrics=label_set_metrics,
        protocol="top-1 against label sets (arXiv 2006.07159); images with an empty set are skipped",
        settle="scaling.evals.label_files:settle",
        settled=("labels_path", "labels_sha256", "labels_by"),
        is_shared=True,
        uses_classifier=True,
    ),
    "throughput": EvaluationKind(
        settings=ThroughputSettings,
        sources=(),
        function="scaling.evals.throughput:evaluate",
        metrics=throughput_metrics,
        protocol="inference on random images, best of several batch sizes (Mixer, Section 3)",
    ),
    "finetune": EvaluationKind(
        settings=FineTuneSettings,
        sources=("train", "test"),
        optional_sources=("dev_train", "dev"),
        function="",
        metrics=finetune_metrics,
        by="runs",
        protocol="fine-tuning by the recipes of Mixer, ViT and BiT; rates chosen on held-out training images",
    ),
}

EVALUATIONS: Mapping[str, EvaluationKind] = Extensible("scaling.evaluations", EvaluationKind, _OWN)
"""Every evaluation by its `kind` in a sweep; installed packages add theirs by entry points of this group."""


def metrics_of(plan: EvalPlan) -> tuple[str, ...] | None:
    """What a planned evaluation measures, without its name before each; None where that is not known before."""
    kind = EVALUATIONS[plan.kind]
    if kind.metrics is None:
        return None
    # Planning keeps more than settings: a digest of the recipes.
    settings = {name: value for name, value in plan.settings.items() if name in kind.settings.model_fields}
    return kind.metrics(kind.settings.model_validate(settings))
