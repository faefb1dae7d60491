"""The settings of one run: the fields that `defaults`, `grid`, `zip`, `include` and `overrides` may set, and whether
they fit a rule such as {model: "vit-*", seed: [0, 1]}, which exclude, overrides and recipes go by.

Each field is one word of the papers' vocabulary with its default. Nothing here is derived: planning turns
durations into steps, `auto` into a value and a fraction into a count.
"""

import fnmatch
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from scaling.records.run_plan import Frozen, Permutation
from scaling.spec.duration import Duration

Seed = Annotated[int, Field(ge=0, lt=2**63)]
Count = Annotated[int, Field(gt=0, le=10**9)]


class RunSettings(Frozen):
    """One run as the user describes it."""

    recipe: str | None = Field(
        None, description="Published hyper-parameters by name, under all other settings (scaling.launch --recipes)."
    )
    model: str = Field(description="A model by its paper's name (python -m scaling.models lists them) or timm:NAME.")
    fraction: Annotated[float, Field(gt=0, le=1)] = Field(
        1.0, description="Share of the training images that the run may see, above 0 and at most 1."
    )
    seed: Seed = Field(0, description="Seed of initialisation, data order and augmentation.")
    subset_seed: Seed | None = Field(
        None,
        description="Seed of the subset draw; by default `seed`, so that the spread over seeds contains the draw.",
    )
    image_size: Annotated[int, Field(gt=0, le=8192)] | None = Field(
        None, description="Pixels a side; default: the model's own."
    )
    model_options: dict[str, Any] = Field({}, description="Options of the model family (python -m scaling.models).")
    dropout: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.0, description="Dropout rate, where the model's paper puts it; Mixer and ViT have places for it."
    )
    drop_path: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.0, description="Stochastic-depth rate of the last block, rising linearly from 0 over depth."
    )
    head_bias: float | Literal["auto"] = Field(
        "auto", description="Initial classifier bias; auto is -ln(classes) for sigmoid and 0 for softmax."
    )
    loss: Literal["auto", "sigmoid", "softmax"] = Field(
        "auto",
        description="auto is sigmoid cross-entropy for multi-label data and softmax for single-label data.",
    )
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.0, description="Share s of every target that is spread over all K classes: (1 - s) * target + s / K."
    )
    optimizer: Literal["adam", "sgd"] = Field(
        "adam", description="Adam with decoupled weight decay, or SGD with momentum and coupled weight decay (BiT)."
    )
    momentum: Annotated[float, Field(ge=0, lt=1)] = Field(0.9, description="Momentum of SGD.")
    learning_rate: Annotated[float, Field(gt=0)] = Field(1e-3, description="Peak learning rate, after warm-up.")
    end_learning_rate: Annotated[float, Field(ge=0)] = Field(1e-5, description="Learning rate at the last step.")
    weight_decay: Annotated[float, Field(ge=0)] = Field(
        0.1,
        description="Adam: a step shrinks weights by learning rate times this; SGD: times weight, added to gradients.",
    )
    head_weight_decay: Annotated[float, Field(ge=0)] | None = Field(
        None, description="Weight decay of the classifier; default: that of the body."
    )
    decay_scope: Literal["kernels", "all"] = Field(
        "kernels", description="kernels: biases, norms, position embeddings and class token are not decayed."
    )
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = Field(
        (0.9, 0.999), description="Decay rates of Adam's first and second moment, for example [0.9, 0.999]."
    )
    clip: Annotated[float, Field(ge=0)] = Field(1.0, description="Global gradient norm to clip at; 0 for no clipping.")
    warmup: Duration = Field(Duration(2.0, "percent"), description="Linear warm-up from 0 to the peak.")
    decay: Literal["linear", "cosine", "constant", "staircase"] = Field(
        "linear", description="Shape after the warm-up; staircase multiplies by decay_factor at each of decay_at."
    )
    decay_at: tuple[Duration, ...] = Field((), description="Where a staircase steps down, for example [30%, 60%, 90%].")
    decay_factor: Annotated[float, Field(gt=0, lt=1)] = Field(0.1, description="What a staircase multiplies by.")
    augment: Literal["none", "flip", "inception", "crop", "crop_flip"] = Field(
        "inception",
        description="inception: crop of 5-100 % area and random flip (Mixer, Section 3); crop and crop_flip: a crop of "
        "the model's size from a square of crop_from pixels (BiT).",
    )
    crop_from: Count | None = Field(None, description="Pixels a side that augment: crop or crop_flip crops from.")
    randaugment_layers: Annotated[int, Field(ge=0, le=16)] = Field(
        0, description="Operations of RandAugment after crop and flip (the papers: 2); 0 for none."
    )
    randaugment_magnitude: Annotated[float, Field(ge=0, le=30)] = Field(
        10.0, description="Strength of RandAugment; 10 is full scale, the Mixer paper tries 0, 10, 15 and 20."
    )
    mixup: Annotated[float, Field(ge=0)] = Field(
        0.0, description="p of mixup: images are blended in shares drawn from Beta(p, p); 0 for none."
    )
    permute: Permutation = Field(
        "none",
        description="One fixed permutation of every image's pixels, drawn by the seed, in training and evaluation: "
        "patches_and_pixels (patches, and pixels inside each patch alike) or global (Mixer, Section 3.4).",
    )
    permute_patch_size: Count | None = Field(
        None, description="Patch that patches_and_pixels permutes, pixels a side; default: the model's own patch."
    )
    precision: Literal["fp32", "bf16"] = Field("fp32", description="Arithmetic of the model; part of a run's identity.")
    zero_stage: Literal[0, 1, 2] = Field(
        0, description="What processes share out (DeepSpeed ZeRO): 0 nothing, 1 optimiser state, 2 gradients too."
    )
    exchange: Literal["fp32", "bf16"] = Field(
        "fp32",
        description="In what processes sum gradients under zero_stage: 0; bf16 halves the traffic and rounds them to 8 "
        "bits; part of a run's identity.",
    )
    overlap_comm: bool = Field(
        False,
        description="Under zero_stage 1 and 2 exchange gradients during the backward pass; takes 2 GB more of a GPU.",
    )
    activation_checkpointing: bool = Field(
        False, description="Compute blocks again in the backward pass instead of keeping their activations."
    )
    channels_last: bool = Field(
        True, description="Memory layout of images and feature maps; true is what convolutions want."
    )
    deterministic: bool = Field(
        False,
        description="On a GPU use only operations that give the same bits every time; slower.",
    )
    compile: bool = Field(False, description="torch.compile the model; minutes at the start of every attempt.")
    micro_batch: Count | Literal["auto"] | None = Field(
        None,
        description="Examples a device takes at once; default: all of its share of the global batch; auto: as many of "
        "them as fit into memory, found at the first start and remembered by the study.",
    )
    patience: Count | None = Field(
        None, description="Stop after so many upstream validations in a row without improvement; default: never."
    )
    non_finite: Literal["stop", "skip"] = Field(
        "stop", description="At a gradient that is not a number: end the run, or leave out the step and count it."
    )
    validate_every: Duration = Field(Duration(10.0, "percent"), description="Interval of upstream validation.")
    checkpoint_every: Duration = Field(Duration(10.0, "percent"), description="Interval of checkpoints.")
    log_every: Duration = Field(Duration(2.0, "percent"), description="Interval of training rows in events.jsonl.")
    keep_checkpoints: Count = Field(2, description="How many of the newest are kept.")


def holds_switch(value: Any) -> bool:
    """Whether a value is true or false, or a list with one of them: Pydantic and Python take them for 1 and 0."""
    return any(isinstance(item, bool) for item in (value if isinstance(value, list) else [value]))


def matches(rule: Mapping[str, Any], values: Mapping[str, Any]) -> bool:
    """Every field of the rule is a value, a list of values or a text with * and ?, and fits."""
    return all(name in values and _fits(wanted, values[name]) for name, wanted in rule.items())


def _fits(wanted: Any, value: Any) -> bool:
    if isinstance(wanted, list):
        return any(_fits(option, value) for option in wanted)
    if isinstance(wanted, str) and isinstance(value, str):
        return fnmatch.fnmatchcase(value, wanted)
    return bool(wanted == value)
