"""Parameters and FLOPs of the named models, from a table in the package: planning a study of them counts nothing.

`zoo_counts.csv` holds every model of the papers' families at its native size. All counts are linear in the number of
classes, because the classifier is one matrix with a bias, so a row has the count without classes and what each class
adds. Options that change no count (initialisation, dropout rates, the form of GELU) are passed over. The table is made
by `python -m scaling.plan.count_zoo`; a test counts a sample of it again, and all of it when asked to.
"""

import csv
import functools
import json
from dataclasses import dataclass
from importlib import resources

from scaling.models.registry import default_image_size, find_model, is_timm_name
from scaling.models.zoo import PAPER_FAMILIES
from scaling.records.run_plan import canonical_json

TABLE = resources.files("scaling.plan") / "zoo_counts.csv"

COUNTS = ("num_params", "num_body_params", "flops_forward_per_image", "flops_train_per_image")

SAME_COUNT_OPTIONS = frozenset(
    {"init", "head_init", "position_init", "gelu", "drop_path_rule", "drop_path_rescale", "dropout", "conv_eps"}
)
"""Model options that change no count; a test counts each of them."""


@dataclass(frozen=True, slots=True)
class ModelQuery:
    """What the counts depend on."""

    name: str
    image_size: int
    num_classes: int
    options_json: str = "{}"
    """Canonical JSON of the model's options: hashable."""


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """Counts of one model with `num_classes` outputs; FLOPs are per image."""

    num_params: int
    num_body_params: int
    flops_forward_per_image: float
    flops_train_per_image: float
    mixes_examples: bool = False
    """Whether an example's numbers depend on the others of its micro-batch (batch normalisation); no model of ours."""
    draws: bool = False
    """Whether it draws at random in training by itself, apart from the settings `drop_path` and `dropout`."""


def zoo_facts(query: ModelQuery) -> ModelFacts | None:
    """The counts of a model that the table holds; None for all others."""
    if is_timm_name(query.name):
        return None
    family, spec = find_model(query.name)
    # A package may put a family of its own under the name of ours.
    if not any(family is known for known in PAPER_FAMILIES) or query.image_size != default_image_size(query.name):
        return None
    options = family.options.read(spec.name, json.loads(query.options_json)).model_dump(
        exclude_defaults=True, exclude=set(SAME_COUNT_OPTIONS)
    )
    row = _table().get((query.name, canonical_json(options)))
    if row is None:
        return None
    counts = [base + per_class * query.num_classes for base, per_class in row]
    return ModelFacts(counts[0], counts[1], counts[2], counts[3])


@functools.cache
def _table() -> dict[tuple[str, str], tuple[tuple[int, int], ...]]:
    """(name, options) -> for each of COUNTS, the count without classes and what one class adds."""
    return {
        (row["model"], row["options"]): tuple((int(row[name]), int(row[f"{name}_a_class"])) for name in COUNTS)
        for row in csv.DictReader(TABLE.read_text(encoding="utf-8").splitlines())
    }
