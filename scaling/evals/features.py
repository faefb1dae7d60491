"""Frozen representations of a whole data set, for probes."""

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
def extract_features(
    model: VisionModel,
    source: PixelSource,
    transform: str,
    batch: int,
    where: EvaluationContext,
    samples: NDArray[np.int64] | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Pre-logits (N, D) and the first label of each sample (N,), in canonical order; of `samples` alone, increasing
    canonical positions, where given. The processes of `where` share the images, and each gets all rows. UserError
    where a feature is not finite."""
    loader = EvalLoader(
        source,
        batch=batch,
        image_size=where.image_size,
        transform=transform,
        rank=where.processes.rank,
        world=where.processes.world,
        threads=where.loader_threads,
        processes=where.decode_processes,
        permutation=planned_permutation(where.input, where.image_size),
        samples=samples,
    )
    features = [torch.empty(0, model.num_features)]
    labels = [torch.empty(0, dtype=torch.int64)]
    for part in on_device(loader, where.device):
        with autocast(where.device, where.precision):
            output = model.features(normalise(part.images))
        features.append(output.float().cpu())
        labels.append(part.labels[:, 0].cpu())
    total = source.manifest.num_samples if samples is None else len(samples)
    stacked = where.gather_rows(torch.cat(features), total)
    if not torch.isfinite(stacked).all():
        num_bad = int((~torch.isfinite(stacked).all(dim=1)).sum())
        raise UserError(
            f"{num_bad} of {len(stacked)} images have features that are not finite: the weights diverged; train "
            "again with a smaller learning_rate or clip, or in precision: fp32"
        )
    return stacked.numpy(), where.gather_rows(torch.cat(labels), total).numpy()
