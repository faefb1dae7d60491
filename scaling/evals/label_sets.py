"""Accuracy against sets of right labels: ImageNet-ReaL (arXiv 2006.07159) and any reassessed set of a user's own.

An image counts as right when the highest-scored class is in its set; images with an empty set are skipped and counted.
The sets are a JSON file. A list has one set of class numbers per image, in the order of the data set; an object has
them by sample key; classes may be named too. `imagenet-real` is the list that timm ships for the 50,000 validation
images of ImageNet, whose sets are found by the number in a sample's key (`ILSVRC2012_val_00000001`).
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from scaling.data.format.manifest import Manifest
from scaling.data.read.pixels import PixelSource
from scaling.data.storage.integrity import file_sha256
from scaling.errors import UserError, did_you_mean
from scaling.evals.label_files import read_label_file
from scaling.evals.predictions import predict
from scaling.evals.runner import EvaluationContext, open_pixels
from scaling.evals.settings import LabelSetSettings
from scaling.models.networks.vision_model import VisionModel
from scaling.records.run_plan import EvalPlan

VALIDATION_KEY = re.compile(r"(?:.*/)?ILSVRC2012_val_(\d{8})")


def evaluate(model: VisionModel, plan: EvalPlan, where: EvaluationContext) -> dict[str, float]:
    """`top1` over the images that have a set, `original_top1` over the same images by the data's own labels,
    `num_scored` and `num_empty`."""
    settings = LabelSetSettings.model_validate(plan.settings)
    path = Path(settings.labels_path)
    if file_sha256(path) != settings.labels_sha256:
        raise UserError(f"{path} has changed since the evaluation was planned; plan it again")
    source = open_pixels(plan.sources["test"])
    sets = match_label_sets(read_label_file(path), source, settings.labels_by, str(path))
    rows = predict(model, source, settings.batch, where, _top, num_columns=2)
    return score_label_sets(rows[:, 0].astype(np.int64), rows[:, 1] > 0, sets) if where.is_first else {}


def score_label_sets(
    predicted: NDArray[np.int64], is_original: NDArray[np.bool_], sets: Sequence[frozenset[int]]
) -> dict[str, float]:
    """The metrics of `evaluate` from predicted classes (N,), whether each is the data's own label (N,), and N sets."""
    scored = np.array([bool(one) for one in sets])
    if not scored.any():
        raise UserError("every label set is empty, so no image can be scored; give a file with labels")
    hits = np.array([int(number) in one for number, one in zip(predicted, sets, strict=True)])
    return {
        "top1": float(hits[scored].mean()),
        "original_top1": float(is_original[scored].mean()),
        "num_scored": float(scored.sum()),
        "num_empty": float((~scored).sum()),
    }


def match_label_sets(content: Any, source: PixelSource, by: str, name: str) -> list[frozenset[int]]:
    """The set of every image in canonical order; UserError where an image has none to itself, or a class is unknown."""
    manifest = source.manifest
    if by == "position":
        if len(content) != manifest.num_samples:
            raise UserError(
                f"{name} has {len(content):,} label sets and {manifest.name} has {manifest.num_samples:,} images; give "
                "a list with one set per image in their order, or an object with a set per sample key"
            )
        return [_numbers(one, manifest, name) for one in content]
    keys = [key for shard in range(len(manifest.shard_samples)) for key in _keys(source, shard)]
    if by == "validation_number":
        content = {f"{number:08d}": one for number, one in enumerate(content, start=1)}
        found = [VALIDATION_KEY.fullmatch(key) for key in keys]
        wrong = next((key for key, match in zip(keys, found, strict=True) if match is None), None)
        if wrong is not None:
            raise UserError(
                f"{manifest.name}: the key {wrong!r} is not that of an ImageNet validation image, such as "
                "ILSVRC2012_val_00000001; keep the files' names when you build the shards"
            )
        keys = [match[1] for match in found if match is not None]
    missing = [key for key in keys if key not in content]
    if missing:
        raise UserError(
            f"{name} has no label set for {len(missing):,} of the {len(keys):,} images of {manifest.name}, such as "
            f"{missing[0]!r}; give an empty list for an image that is to be skipped"
        )
    return [_numbers(content[key], manifest, name) for key in keys]


def _keys(source: PixelSource, shard_id: int) -> list[str]:
    shard = source.shards.get(shard_id)
    return [shard.key(index) for index in range(len(shard))]


def _numbers(labels: Any, manifest: Manifest, name: str) -> frozenset[int]:
    """Class numbers of one set, which may hold names."""
    numbers = []
    for label in labels if isinstance(labels, list) else [labels]:
        if isinstance(label, str) and label in manifest.classes:
            label = manifest.classes.index(label)
        if type(label) is not int or not 0 <= label < len(manifest.classes):
            hint = did_you_mean(str(label), manifest.classes, 5)
            raise UserError(f"{name}: {label!r} is no class of {manifest.name}; {hint}")
        numbers.append(label)
    return frozenset(numbers)


def _top(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """(b, 2): the highest-scored class, and whether it is among the labels."""
    best = logits.argmax(dim=1, keepdim=True)
    return torch.cat([best, (best == labels).any(dim=1, keepdim=True).long()], dim=1)
