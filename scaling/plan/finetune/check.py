"""What manifests say about whether a model can be fine-tuned on one data set and scored on another, before anything is
trained."""

from collections.abc import Collection, Mapping

import numpy as np

from scaling.data.format.manifest import Manifest
from scaling.evals.finetune_settings import FineTuneSettings
from scaling.plan.check_data import class_problem
from scaling.plan.finetune.values import needs_area, rates_of
from scaling.plan.overlap import overlap_problem, warn_of_uncompared
from scaling.spec.finetune_recipe import finetune_recipe_names, recipe_for, recipes_of

Named = tuple[str, Manifest]
"""A data set as the sweep names it."""


def finetune_problem(sources: Mapping[str, Named], settings: FineTuneSettings) -> str | None:
    """Why these data sets, by role, cannot be used together, as a sentence; None when they can, for all that planning
    can tell."""
    train, test = sources["train"], sources["test"]
    if problem := _pair_problem(train, test):
        return problem
    if not settings.allow_missing_classes and (problem := _missing_class(train, test)):
        return problem
    if not {"dev_train", "dev"} & set(sources):
        return None
    if not {"dev_train", "dev"} <= set(sources):
        return "dev_train and dev belong together: rates are tried on the one and chosen on the other; name both"
    if settings.dev_share is not None:
        return "dev_share cuts a part from train, and dev_train and dev name one; leave out the one or the others"
    # Neither what rates are tried on nor what chooses among them may be scored on.
    pairs = ((sources["dev_train"], sources["dev"]), (sources["dev_train"], test), (sources["dev"], test))
    return next((problem for one, other in pairs if (problem := _pair_problem(one, other))), None)


def unused_problem(
    written: Collection[str], settings: FineTuneSettings, num_images: int, families: Collection[str]
) -> tuple[str, str] | None:
    """Which of the settings and data that are `written` changes nothing, and why, as a sentence; None where each does.

    For models of `families`, or of any where there are none, and `num_images` training images. A setting counts as used
    where it is for one of them."""
    recipes = {recipe_for(settings.recipe, family) for family in families} or set(recipes_of(settings.recipe))
    tried = [settings.learning_rates or rates_of(recipe, num_images) for recipe in sorted(recipes)]
    for name in ("dev_share", "dev_seed", "dev_train", "dev"):
        if name in written and all(len(rates) == 1 for rates in tried):
            return name, (
                f"the only rate, {tried[0][0]:g}, is taken without a choice, so nothing is held out to choose on; "
                "leave it out, or write several learning_rates"
            )
    if "image_area" in written and not any(needs_area(recipe) for recipe in recipes):
        by_area = ", ".join(name for name in finetune_recipe_names() if needs_area(name))
        return "image_area", (
            f"{' and '.join(sorted(recipes))} do not go by it; leave it out, or take a recipe that does: {by_area}"
        )
    return None


def _pair_problem(learned: Named, test: Named) -> str | None:
    """Why one data set cannot be learned from to be scored on the other."""
    for name, manifest in (learned, test):
        if manifest.label_type != "single":
            return f"{name} is multi-label, and fine-tuning needs one class per image; give a single-label data set"
    (learned_name, learned_set), (test_name, test_set) = learned, test
    if len(learned_set.classes) != len(test_set.classes):
        return (
            f"{learned_name} has {len(learned_set.classes)} classes and {test_name} has {len(test_set.classes)}; "
            "they must share their classes"
        )
    problem = class_problem(learned_set, test_set, learned_name, test_name) or overlap_problem(
        learned_set, test_set, learned_name, test_name
    )
    if problem is None:
        warn_of_uncompared(learned_set, test_set, learned_name, test_name)
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
        "training set with every class, or say allow_missing_classes: true"
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
