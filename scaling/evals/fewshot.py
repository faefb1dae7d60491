"""Linear few-shot accuracy: how well a linear classifier on frozen features does after a few images per class.

`fewshot` is the probe of big_vision's `evaluators/fewshot_lsr.py`: seeded support draws and one fixed penalty.
`fewshot_2021` is the form of 2020-21, from the time of ViT and Mixer: the first images of each class and a penalty
from a grid of 30. Its authors ranked the grid by test accuracy; here the penalty is chosen on held-out support images,
so that no test image takes part in it. Both embed only the support images that some draw uses, once for all shots,
draws and penalties.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from scaling.data.format.copies import copies_problem, find_copies
from scaling.data.read.pixels import PixelSource
from scaling.errors import UserError
from scaling.evals.features import extract_features
from scaling.evals.ridge import Features, Labels, fit_probe, held_out_accuracies
from scaling.evals.runner import EvaluationContext, open_pixels
from scaling.evals.settings import FewShot2021Settings, FewShotSettings
from scaling.models.networks.vision_model import VisionModel
from scaling.records.run_plan import EvalPlan

PENALTIES_2021 = tuple(2.0**exponent for exponent in range(-10, 20))
"""The grid of the probe of 2020-21, 2^-10 to 2^19."""


def evaluate(model: VisionModel, plan: EvalPlan, where: EvaluationContext) -> dict[str, float]:
    """`<n>shot_top1`, the mean over support seeds, and `<n>shot_top1_seed<s>` of each."""
    settings = FewShotSettings.model_validate(plan.settings)
    source, test_source = _open_both(plan)
    labels = all_labels(source)
    num_classes = plan.sources["support"].num_classes
    draws = {
        (shots, seed): choose_support(labels, shots=shots, seed=seed, num_classes=num_classes)
        for shots in settings.shots
        for seed in settings.support_seeds
    }
    used = np.unique(np.concatenate(list(draws.values())))
    _refuse_copies(plan, source, test_source, used)
    support, test = _embed_both(model, source, test_source, used, settings.batch, where)
    if not where.is_first:
        return {}
    metrics: dict[str, float] = {}
    for shots in settings.shots:
        scores = {}
        for seed in settings.support_seeds:
            chosen = draws[shots, seed]
            probe = fit_probe(support(chosen), labels[chosen], num_classes, settings.l2)
            scores[seed] = probe.accuracy(*test)
        metrics[f"{shots}shot_top1"] = float(np.mean(list(scores.values())))
        metrics |= {f"{shots}shot_top1_seed{seed}": score for seed, score in scores.items()}
    return metrics


def evaluate_2021(model: VisionModel, plan: EvalPlan, where: EvaluationContext) -> dict[str, float]:
    """`<n>shot_top1` and the base-two logarithm of the penalty chosen for it, `<n>shot_log2_l2`."""
    settings = FewShot2021Settings.model_validate(plan.settings)
    source, test_source = _open_both(plan)
    labels = all_labels(source)
    num_classes = plan.sources["support"].num_classes
    draws = {shots: first_images(labels, shots=shots, num_classes=num_classes) for shots in settings.shots}
    used = np.unique(np.concatenate(list(draws.values())))
    _refuse_copies(plan, source, test_source, used)
    support, test = _embed_both(model, source, test_source, used, settings.batch, where)
    if not where.is_first:
        return {}
    metrics: dict[str, float] = {}
    for shots, chosen in draws.items():
        l2 = choose_penalty(support(chosen), labels[chosen], num_classes)
        probe = fit_probe(support(chosen), labels[chosen], num_classes, l2)
        metrics[f"{shots}shot_top1"] = probe.accuracy(*test)
        metrics[f"{shots}shot_log2_l2"] = float(np.log2(l2))
    return metrics


def choose_support(labels: Labels, *, shots: int, seed: int, num_classes: int) -> NDArray[np.int64]:
    """Indices of the first `shots` images of each class after a seeded permutation of that class; fewer shots of the
    same seed are a subset."""
    generator = np.random.default_rng(seed)
    return _take(
        [generator.permutation(np.flatnonzero(labels == number)) for number in range(num_classes)], shots=shots
    )


def first_images(labels: Labels, *, shots: int, num_classes: int) -> NDArray[np.int64]:
    """Indices of the first `shots` images of each class, in the order of the data set."""
    return _take([np.flatnonzero(labels == number) for number in range(num_classes)], shots=shots)


def choose_penalty(features: Features, labels: Labels, num_classes: int) -> float:
    """The penalty of the 2021 grid with the best held-out accuracy; the largest of equals."""
    accuracies = held_out_accuracies(features, labels, num_classes, PENALTIES_2021)
    best = np.flatnonzero(accuracies == accuracies.max())[-1]
    return PENALTIES_2021[int(best)]


def all_labels(source: PixelSource) -> Labels:
    """The class of every sample (N,), in canonical order, read without decoding any image."""
    rows = [row for shard in range(len(source.manifest.shard_samples)) for row in source.shard_labels(shard)]
    return np.array([row[0] for row in rows], np.int64)


def _take(members: list[NDArray[np.int64]], *, shots: int) -> NDArray[np.int64]:
    fewest = min(len(indices) for indices in members)
    if fewest < shots:
        raise UserError(
            f"few-shot support: the smallest class has {fewest} images, fewer than shots = {shots}; lower shots or "
            "give a larger support set"
        )
    return np.concatenate([indices[:shots] for indices in members])


def _open_both(plan: EvalPlan) -> tuple[PixelSource, PixelSource]:
    """Support and test set. Classes have to be exclusive, and the same in both."""
    support, test = plan.sources["support"], plan.sources["test"]
    for source in (support, test):
        if source.label_type != "single":
            raise UserError(f"few-shot: {source.manifest} is multi-label; give a set with one class per image")
    if support.num_classes != test.num_classes:
        raise UserError(
            f"few-shot: {support.manifest} has {support.num_classes} classes and {test.manifest} has "
            f"{test.num_classes}; support and test must share their classes"
        )
    return open_pixels(support), open_pixels(test)


def _refuse_copies(plan: EvalPlan, support: PixelSource, test: PixelSource, used: NDArray[np.int64]) -> None:
    """UserError when a support image that some draw uses is a test image too: its score would be one of memory.

    All sets are compared here, also those that planning does not read: remote ones and large ones."""
    copies = find_copies((test.manifest, test.shards), (support.manifest, support.shards), used)
    names = plan.sources["support"].manifest, plan.sources["test"].manifest
    if problem := copies_problem(copies, test.manifest.num_samples, *names):
        raise UserError(f"few-shot: {problem}")


def _embed_both(
    model: VisionModel,
    support: PixelSource,
    test: PixelSource,
    used: NDArray[np.int64],
    batch: int,
    where: EvaluationContext,
) -> tuple[Callable[[NDArray[np.int64]], Features], tuple[Features, Labels]]:
    """A function from sample indices, of those that some draw uses, to their features; features and labels of the whole
    test set."""
    features, _ = extract_features(model, support, "fewshot", batch, where, samples=used)
    tested = extract_features(model, test, "fewshot", batch, where)
    return lambda chosen: features[np.searchsorted(used, chosen)], tested
