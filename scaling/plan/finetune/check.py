"""What manifests say about whether a model can be fine-tuned on one data set and scored on another, before anything is
trained."""

import numpy as np

from scaling.data.format.manifest import Manifest
from scaling.plan.check_data import class_problem
from scaling.plan.overlap import overlap_problem, warn_of_uncompared

Named = tuple[str, Manifest]
"""A data set as the sweep names it."""


def transfer_problem(train: Named, test: Named) -> str | None:
    """Why this training and test set cannot be used together, as a sentence; None when they can, for all that planning
    can tell."""
    for name, manifest in (train, test):
        if manifest.label_type != "single":
            return f"{name} is multi-label, and fine-tuning needs one class per image; give a single-label data set"
    (train_name, train_set), (test_name, test_set) = train, test
    if len(train_set.classes) != len(test_set.classes):
        return (
            f"{train_name} has {len(train_set.classes)} classes and {test_name} has {len(test_set.classes)}; "
            "train and test must share their classes"
        )
    problem = (
        class_problem(train_set, test_set, train_name, test_name)
        or _missing_class(train, test)
        or overlap_problem(train_set, test_set, train_name, test_name)
    )
    if problem is None:
        warn_of_uncompared(train_set, test_set, train_name, test_name)
    return problem


def _missing_class(train: Named, test: Named) -> str | None:
    (train_name, train_set), (test_name, test_set) = train, test
    if train_set.class_counts is None or test_set.class_counts is None:
        return None
    missing = np.flatnonzero((train_set.class_counts == 0) & (test_set.class_counts > 0)).tolist()
    if not missing:
        return None
    return (
        f"{len(missing)} of {len(train_set.classes)} classes of {test_name}, such as "
        f"{train_set.classes[missing[0]]!r}, have no image in {train_name}, so nothing could be learnt of them; give a "
        "training set with every class"
    )


def num_dev_images(num_images: int, share: float, name: str) -> tuple[int, str | None]:
    """How many of a data set's images a rate is chosen on, and why they are too few or too many, as a sentence."""
    count = round(share * num_images)
    if 0 < count < num_images:
        return count, None
    told = "no image" if count == 0 else "all images"
    return count, (
        f"dev_share = {share:g} of the {num_images:,} images of {name} is {told}, so no rate could be chosen and "
        "trained; write for example dev_share: 0.1, or a single rate in learning_rates"
    )
