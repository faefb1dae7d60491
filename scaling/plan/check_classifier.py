"""What planning can say about scoring the classifier of pre-training: its outputs are numbered as the classes of the
training data, and its scores are logits of the loss that it was trained by. Both would be taken for others in silence.
"""

import logging
from collections.abc import Collection
from dataclasses import dataclass

from scaling.data.format.manifest import Manifest
from scaling.plan.check_data import class_problem

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Pretraining:
    """What the runs that are scored were trained on and by."""

    name: str
    """Of the training data, as messages say it."""
    manifest: Manifest | None
    """None where it cannot be read any more."""
    losses: frozenset[str]
    """`softmax`, `sigmoid` or, of runs that differ in it, both."""
    families: frozenset[str]
    """Of the models; empty where they are not known."""


def outputs_problem(test_name: str, test: Manifest, trained: Pretraining) -> str | None:
    """Why the classifier's outputs are not the classes of `test`, as a sentence; None where they are, for all that
    manifests say."""
    learned = trained.manifest
    if learned is None:
        return None
    if problem := class_problem(learned, test, trained.name, test_name):
        return problem
    if len(learned.classes) != len(test.classes):
        return (
            f"{test_name} has {len(test.classes)} classes and {trained.name} {len(learned.classes)}, which are the "
            "outputs of the classifier that is scored; give a set of the classes that are trained on"
        )
    return None


def loss_problem(
    given: str | None, label_type: str, test_name: str, losses: Collection[str] = frozenset()
) -> str | None:
    """Why a loss, or where none is given that of the label type, is not that of the scored classifier on such data, as
    a sentence; None where it is. `losses` are those that the runs are trained by, as far as they are known."""
    if label_type == "multi" and (given == "softmax" or set(losses) == {"softmax"}):
        by = "loss: softmax" if given == "softmax" else "the runs are trained by softmax"
        way_out = "give a single-label set" if set(losses) == {"softmax"} else "write loss: sigmoid"
        return f"{by}, which takes one label an image, and {test_name} is multi-label; {way_out}"
    loss = given or ("softmax" if label_type == "single" else "sigmoid")
    others = sorted(set(losses) - {loss})
    if others and loss in losses:
        logger.warning(
            "%s: loss, calibration_error and mean_confidence are those of loss: %s and mean nothing of the runs that "
            "are trained by %s",
            test_name,
            loss,
            others[0],
        )
    elif others:
        told = f"loss: {loss}" + ("" if given else f", the default for {label_type}-label data such as {test_name},")
        return f"{told} is not what the runs are trained by; write loss: {others[0]}"
    return None
