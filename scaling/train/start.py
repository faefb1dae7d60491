"""Trained weights as the beginning of a run: the body of an earlier model at this run's resolution, under a new head.

The weights are those of the plan, by their SHA-256, or the run does not begin.
"""

import logging
from pathlib import Path
from typing import Any

import torch

from scaling.data.storage.integrity import file_sha256
from scaling.errors import UserError
from scaling.models.networks.vision_model import VisionModel
from scaling.models.weights.files import load_weights
from scaling.models.weights.transfer import change_resolution, replace_head
from scaling.records.run_plan import StartPlan
from scaling.train.scoring import build_planned

logger = logging.getLogger(__name__)


def start_from(model: VisionModel, start: StartPlan, study_dir: Path) -> None:
    """Give `model`, freshly built, the planned weights; UserError when they are gone, changed, no numbers or do not
    fit."""
    path = study_dir / start.weights
    if not path.is_file():
        raise UserError(f"{path}: the weights of {start.run_id} to start from are gone; launch the study again")
    found = file_sha256(path)
    if found != start.sha256:
        raise UserError(
            f"{path}: these are not the weights of {start.run_id} that the run was planned to start from (sha256 "
            f"{found[:12]}, planned {start.sha256[:12]}); launch the study again"
        )
    with torch.random.fork_rng(devices=[]):
        trained = build_planned(start.model)
    load_weights(trained, path)
    wrong = next((name for name, value in trained.state_dict().items() if not torch.isfinite(value).all()), None)
    if wrong is not None:
        raise UserError(
            f"{path}: {wrong} holds values that are not finite: {start.run_id} diverged; train it again with a smaller "
            "learning_rate"
        )
    moved = change_resolution(replace_head(trained, model.arguments.num_classes), model.arguments.image_size)
    assert _without_dropout(moved) == _without_dropout(model), (moved.arguments, model.arguments)
    model.load_state_dict(moved.state_dict())
    logger.info("starting from the weights of %s, %d px", start.run_id, start.model.image_size)


def _without_dropout(model: VisionModel) -> dict[str, Any]:
    """The options that decide what the weights mean."""
    return {name: value for name, value in model.arguments.options.items() if name != "dropout"}
