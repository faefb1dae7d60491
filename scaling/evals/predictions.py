"""The classifier's outputs over a whole data set, reduced to a few numbers an image as they are computed."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from scaling.data.read.loader import EvalLoader
from scaling.data.read.pixels import PixelSource
from scaling.data.read.to_device import on_device
from scaling.data.select.permute import planned_permutation
from scaling.errors import UserError
from scaling.evals.runner import EvaluationContext
from scaling.models.networks.vision_model import VisionModel, autocast, normalise


@torch.inference_mode()
def predict(
    model: VisionModel,
    source: PixelSource,
    batch: int,
    where: EvaluationContext,
    reduce: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    num_columns: int,
) -> NDArray[np.float64]:
    """`reduce(logits (b, K), padded labels (b, L)) -> (b, num_columns)` of every image, (N, num_columns), in canonical
    order. The processes of `where` share the images, and each gets all rows. Images are seen as upstream validation
    sees them (short side to 8/7 of the input size, centre crop).

    UserError where logits are not finite, or the classifier has another number of classes than the data."""
    num_classes = len(source.manifest.classes)
    if model.head.out_features != num_classes:
        raise UserError(
            f"{source.manifest.name} has {num_classes} classes and the classifier of {model.arguments.name} has "
            f"{model.head.out_features}; give data of the classes that it was trained on (for weights: --num-classes)"
        )
    loader = EvalLoader(
        source,
        batch=batch,
        image_size=where.image_size,
        transform="upstream",
        rank=where.processes.rank,
        world=where.processes.world,
        threads=where.loader_threads,
        processes=where.decode_processes,
        permutation=planned_permutation(where.input, where.image_size),
    )
    parts = [torch.empty((0, num_columns), dtype=torch.float64)]
    num_bad = torch.zeros((), dtype=torch.int64, device=where.device)
    for one in on_device(loader, where.device):
        with autocast(where.device, where.precision):
            logits = model(normalise(one.images))
        num_bad += (~torch.isfinite(logits).all(dim=1)).sum()
        parts.append(reduce(logits.float(), one.labels).double().cpu())
    total = source.manifest.num_samples
    rows = where.gather_rows(torch.cat(parts), total).numpy()
    bad = sum(int(one) for one in where.processes.gather(num_bad))
    if bad:
        raise UserError(
            f"{bad} of {total} images have logits that are not finite: the weights diverged; train again with a "
            "smaller learning_rate or clip, or in precision: fp32"
        )
    return rows
