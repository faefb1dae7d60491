"""`run.json`: the frozen plan of one run. Planning writes it, training obeys it, analysis reads it.

Every number that training needs (steps, warm-up steps, subset count, intervals) is derived once, in
planning, and stands here; nothing is derived again later. `identity` hashes the parts that can change the
run's numbers; paths, devices, micro-batches and log intervals are left out of it, because they only say where
and how the run happens to be executed.
"""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field

from scaling.errors import UserError
from scaling.records.files import canonical_json as canonical_json
from scaling.records.files import content_digest as content_digest
from scaling.records.identity import contradiction
from scaling.records.reading import Frozen as Frozen
from scaling.records.reading import RecordError, read_record, write_record
from scaling.records.run_dir import RunDir
from scaling.records.scores.search_plan import ChoicePlan, TrialPlan

RUN_SCHEMA = 2


class ModelPlan(Frozen):
    name: str
    """The paper's name, `mixer-b/32`."""
    family: str
    """`mixer`, `vit`, `bit`, or the family a user registered."""
    image_size: int
    """Side of the square input, pixels."""
    num_classes: int
    options: dict[str, Any] = Field({})
    head_bias: float
    """Initial value of the classifier's bias."""
    drop_path: float
    """Stochastic-depth rate of the last block; it rises linearly from 0 over depth."""
    num_params: int
    """With classifier head."""
    num_body_params: int
    """Without classifier head."""
    flops_forward_per_image: float
    flops_train_per_image: float
    """Forward and backward, counted on the meta device."""


class StartPlan(Frozen):
    """Trained weights that a run starts from, under a classifier of its own and maybe at another resolution."""

    run_id: str
    """Of the run that trained them."""
    weights: str
    """Where they lie, relative to the folder of the study; or an absolute path."""
    sha256: str
    """Of that file: what they are."""
    model: ModelPlan
    """What they are weights of."""


class DevPlan(Frozen):
    """Training images that are held out of training to make a choice on."""

    num_samples: int
    seed: int
    digest: str
    """Names the samples."""


class AccessPlan(Frozen):
    """How remote data is reached and kept; no part of what the data is."""

    storage: dict[str, dict[str, Any]] = Field({})
    """Options of fsspec's file systems by protocol, `{"s3": {"endpoint_url": …}}`; written down in plain text, so
    credentials belong in the environment or in the library's own files."""
    cache: str = ""
    """Absolute; copies of remote shards, shared by runs and processes; empty: a temporary one of each process."""
    cache_gb: Annotated[float, Field(gt=0)] = 50.0
    """Bound on that folder, 10^9 bytes."""
    verify: bool = True
    """Whether the SHA-256 of local shards was compared with the manifest before their first use on a machine."""


DEFAULT_ACCESS = AccessPlan()


EvalView = Literal["upstream", "fewshot", "whole"]

Permutation = Literal["none", "patches_and_pixels", "global"]


class InputPlan(Frozen):
    """One fixed rearrangement of the pixels of every image, in training and evaluation alike (`data.permute`)."""

    permute: Permutation = "none"
    patch_size: int = 0
    """Pixels; 0 unless patches are permuted."""
    seed: int = 0
    """Draws the permutation; 0 without a permutation."""


UNPERMUTED = InputPlan()
"""Images as they are."""


class SourcePlan(Frozen):
    """One data set as it was when planned."""

    manifest: str
    """Absolute path or url of the manifest: where the data was, not what it is."""
    access: AccessPlan = DEFAULT_ACCESS
    digest: str
    """Digest of the content: what the data is."""
    label_type: Literal["single", "multi"]
    num_classes: int
    num_samples: int


class SubsetPlan(Frozen):
    fraction: float
    seed: int
    num_samples: Annotated[int, Field(ge=1)]
    """Distinct training images of this run: the x-axis of the study."""
    digest: str
    exclude: str = ""
    """Where the list of excluded images was; empty for none. What it excludes is part of the digest."""
    exclusion_digest: str = ""
    label_spread: float | None = None
    """How many times as much as by chance label frequencies vary along the shards of the data set, where that makes
    the subset no fair sample; None where it is one. Not part of the identity."""


class SchedulePlan(Frozen):
    protocol: Literal["constant_steps", "constant_epochs", "matched_compute"]
    batch: Annotated[int, Field(ge=1)]
    """Global batch: examples per optimiser step over all devices."""
    steps: Annotated[int, Field(ge=1)]
    """Optimiser steps of the whole run."""
    epochs: float
    """Passes over the subset, `steps * batch / num_samples`."""
    warmup_steps: int
    decay: Literal["linear", "cosine", "constant", "staircase"]
    decay_steps: tuple[int, ...] = ()
    """The last steps before the learning rate of a staircase is multiplied by `decay_factor`."""
    decay_factor: float = 1.0
    patience: int | None = None
    """Upstream validations in a row without improvement after which the run stops; None for never."""


class RecipePlan(Frozen):
    optimizer: Literal["adam", "sgd"]
    learning_rate: float
    """Peak, after warm-up."""
    end_learning_rate: float
    """At the last step; 0 under a decay that does not lead to it."""
    weight_decay: float
    """Adam: decoupled, a step shrinks a weight by learning_rate(t) * weight_decay. SGD: added to the gradient."""
    head_weight_decay: float
    """Of the classifier."""
    decay_scope: Literal["kernels", "all"]
    """`kernels` where nothing is decayed."""
    momentum: float
    """Of SGD; 0 under Adam."""
    beta1: float
    beta2: float
    """Of Adam; both 0 under SGD."""
    clip: float
    """Global gradient norm above which gradients are scaled down; 0 for no clipping."""
    loss: Literal["sigmoid", "softmax"]
    label_smoothing: float
    augment: Literal["none", "flip", "inception", "crop", "crop_flip"]
    crop_from: int = 0
    """Pixels a side that images are resized to before a random crop; 0 where none is made so."""
    randaugment_layers: int = 0
    """Operations of RandAugment; 0 for none."""
    randaugment_magnitude: float = 0.0
    """0 where there are none."""
    mixup: float = 0.0
    """Both parameters of the beta distribution of mixup's shares; 0 for no mixup."""
    precision: Literal["fp32", "bf16"]
    exchange: Literal["fp32", "bf16"] = "fp32"
    """Type in which the processes of a run sum their gradients. Each gradient is rounded to it before the sum, the sum
    after every addition: in bf16 a relative error of up to 2^-9 each time, while weights and moments stay in fp32."""


class IntervalPlan(Frozen):
    """Steps between two of a kind; the last step always counts as one."""

    log_steps: int
    validate_steps: int
    checkpoint_steps: int
    keep_checkpoints: int


class EnginePlan(Frozen):
    """How the run is executed. Nothing here is part of the identity except through `RecipePlan.precision`."""

    num_devices: int
    micro_batch: int
    """Largest number of examples a device takes at once; accumulation fills up to the global batch."""
    auto_micro_batch: bool = False
    """Search for the largest micro-batch that fits into the memory of the device at hand."""
    batching_counts: Literal["no", "devices", "micro_batch"] = "no"
    """What of the division of a batch changes the run's numbers, and is then part of the identity and binding for
    training: the number of devices (pairs of mixup, an exchange in bf16), or the micro-batch as well (batch
    normalisation; dropout and stochastic depth, which are drawn per process and micro-batch)."""
    zero_stage: Literal[0, 1, 2]
    overlap_comm: bool = False
    """Exchange gradients while the backward pass goes on (ZeRO 1 and 2): the same sums, of accumulated micro-batches in
    another order."""
    activation_checkpointing: bool = False
    """Blocks keep only their inputs and are computed again in the backward pass."""
    channels_last: bool = True
    """Memory layout of images and so of feature maps; the loader delivers channels last."""
    deterministic: bool = False
    """Only operations whose result on a GPU is the same bit for bit at every execution."""
    compile: bool = False
    """Compile the model with `torch.compile`. Like the device, it changes numbers by roundings only."""
    reproduce: Literal["loose", "exact"] = "loose"
    """Whether a resume or a repeat with other threads, devices or library versions says so or is refused."""
    trackers: tuple[str, ...] = ()
    """Dashboards that follow the run."""
    non_finite: Literal["stop", "skip"] = "stop"
    """At a gradient that is not a number. Not part of the identity: a run that stops has no result to confuse with that
    of one that continued, and a stopped run may be resumed with `skip`."""
    max_corrupt: int = 0
    """Different training samples that may be unusable. Not part of the identity for the same reason: the rule by which
    others stand in is fixed, so runs that end are alike whatever was allowed."""


EXECUTION_SETTINGS = frozenset({"batch", "labels", "labels_path", "allow_missing_classes"})
"""Settings of evaluations that say how they are executed, what is let pass, or where something lies whose digest
stands beside it."""


class SuitePlace(Frozen):
    """Where an evaluation stands in a suite, and what the mean over the suite needs. No part of what is measured."""

    name: str
    member: str
    score: str
    """Metric of every member that the means are over, such as `5shot_top1`."""
    groups: dict[str, tuple[str, ...]]
    """Every member by group, also those that are not evaluated here."""


class EvalPlan(Frozen):
    kind: str
    """Registered name of the evaluator: `fewshot`, `throughput`."""
    name: str
    """Prefix of its metrics, unique in the study."""
    sources: dict[str, SourcePlan] = Field({})
    settings: dict[str, Any] = Field({})
    by: Literal["scoring", "runs"] = "scoring"
    """Whether the run itself scores its kept weights, or further runs that start from them give the numbers."""
    version: Annotated[int, Field(ge=1)] = 1
    """Of the evaluator's protocol; a later one makes records of the former history."""
    suite: SuitePlace | None = None
    added: bool = False
    """Asked for by `scaling.evaluate` and not by the sweep; planning the study again keeps it."""

    def digest(self) -> str:
        """What decides the evaluation's numbers: its kind and protocol, its settings and the content of its data."""
        sources = {role: source.digest for role, source in self.sources.items()}
        parts: dict[str, Any] = {"kind": self.kind, "settings": self.defining_settings(), "sources": sources}
        if self.version != 1:
            parts["version"] = self.version
        return content_digest(parts)

    def defining_settings(self) -> dict[str, Any]:
        """Settings without those that only say how the forward passes are cut, which changes numbers by roundings."""
        return {name: value for name, value in self.settings.items() if name not in EXECUTION_SETTINGS}


class HarnessPlan(Frozen):
    version: str
    git_commit: str
    """Empty when the harness does not run from a git checkout."""
    git_dirty: bool


class RunPlan(Frozen):
    run_schema: int = RUN_SCHEMA
    study: str
    run_id: str
    identity: str
    """SHA-256 over the canonical JSON of what can change the numbers."""
    seed: int
    model: ModelPlan
    train: SourcePlan
    val: SourcePlan
    input: InputPlan = UNPERMUTED
    subset: SubsetPlan
    order_version: int = 1
    """Names the rule that turns the seed into an order of the data (`scaling.data.select.order`)."""
    schedule: SchedulePlan
    recipe: RecipePlan
    intervals: IntervalPlan
    engine: EnginePlan
    evals: tuple[EvalPlan, ...]
    harness: HarnessPlan
    start: StartPlan | None = None
    """Weights to start from; None for freshly drawn ones."""
    dev: DevPlan | None = None
    """Samples of `train` that validation uses and training does not; None where `val` is validated on as a whole."""
    val_view: EvalView = "upstream"
    """What validation sees of an image; the names are those of `scaling.data.read.images.transforms`."""
    serves: str = ""
    """What the run is made for, when it is no point of the study's figures: `flowers of mixer-b32_…`."""
    trial: TrialPlan | None = None
    """The place of this run in a search for hyper-parameters; None for a run of its own."""
    choice: ChoicePlan | None = None
    """The search that found the run's hyper-parameters; None where nothing was searched. Neither is in the identity:
    the values themselves are."""

    @property
    def is_point(self) -> bool:
        """Whether it is a point of its study's figures, and no means to find one: no fine-tuning, no trial."""
        return self.start is None and not self.serves and self.trial is None

    def train_flops(self, examples: int) -> float:
        """Training FLOPs, forward and backward, of so many examples, by the count of the model that is known now."""
        return examples * self.model.flops_train_per_image

    def save(self, run_dir: Path) -> None:
        write_record(RunDir(run_dir).plan, self)

    @classmethod
    def load(cls, run_dir: Path) -> Self:
        """Read `run.json`. UserError when there is none; RecordError when it is damaged or its name does not follow
        from its content. Planning the study again writes it anew."""
        path = RunDir(run_dir).plan
        try:
            plan = read_record(path, cls, schema_key="run_schema", schema=RUN_SCHEMA)
        except (FileNotFoundError, NotADirectoryError):
            raise UserError(
                f"{run_dir} holds no run.json; give a folder runs/<study>/<run_id> made by scaling.launch"
            ) from None
        if problem := contradiction(plan):
            raise RecordError(path, f"{problem}; it was changed, or made by another version: plan the study again")
        return plan
