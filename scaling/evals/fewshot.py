"""Linear few-shot accuracy: ridge regression from frozen features to one-vs-rest targets, in closed form.

The steps are those of big_vision's `evaluators/fewshot_lsr.py`, with which the group behind Mixer and ViT scores
its models: no augmentation, per-dimension standardisation by the support set, a constant feature of 100 as bias,
targets of -1 and 1, one fixed penalty, arg-max over classes.
"""

import numpy as np
from numpy.typing import NDArray

from scaling.errors import UserError
from scaling.evals.features import extract_features
from scaling.evals.runner import Circumstances, open_source
from scaling.evals.settings import FewShotSettings
from scaling.models.vision_model import VisionModel
from scaling.records.run_plan import EvalPlan

BIAS_FEATURE = 100.0
"""So large that the penalty barely touches its weight."""

STD_FLOOR = 1e-5

Matrix = NDArray[np.float64]


def evaluate(model: VisionModel, plan: EvalPlan, where: Circumstances) -> dict[str, float]:
    """`<n>shot_top1`, the mean over support seeds, and `<n>shot_top1_seed<s>` of each."""
    settings = FewShotSettings.model_validate(plan.settings)
    _refuse_unfit(plan)
    support = extract_features(model, open_source(plan.sources["support"]), "fewshot", settings.batch, where)
    test = extract_features(model, open_source(plan.sources["test"]), "fewshot", settings.batch, where)
    num_classes = plan.sources["support"].num_classes
    metrics: dict[str, float] = {}
    for shots in settings.shots:
        scores = {
            seed: few_shot_accuracy(support, test, shots=shots, seed=seed, num_classes=num_classes, l2=settings.l2)
            for seed in settings.support_seeds
        }
        metrics[f"{shots}shot_top1"] = float(np.mean(list(scores.values())))
        metrics |= {f"{shots}shot_top1_seed{seed}": score for seed, score in scores.items()}
    return metrics


def few_shot_accuracy(
    support: tuple[Matrix, NDArray[np.int64]],
    test: tuple[Matrix, NDArray[np.int64]],
    *,
    shots: int,
    seed: int,
    num_classes: int,
    l2: float,
) -> float:
    """Top-1 on `test` of the probe fitted to `shots` images per class of `support`; both are (features, labels)."""
    chosen = choose_support(support[1], shots=shots, seed=seed, num_classes=num_classes)
    features, labels = support[0][chosen], support[1][chosen]
    mean, std = features.mean(axis=0), features.std(axis=0) + STD_FLOOR
    targets = 2.0 * (labels[:, None] == np.arange(num_classes)) - 1.0
    weights = ridge(_with_bias((features - mean) / std), targets, l2)
    scores = _with_bias((test[0] - mean) / std) @ weights
    return float(np.mean(scores.argmax(axis=1) == test[1]))


def choose_support(labels: NDArray[np.int64], *, shots: int, seed: int, num_classes: int) -> NDArray[np.int64]:
    """Indices of the first `shots` images of each class after a seeded permutation of that class."""
    generator = np.random.default_rng(seed)
    permuted = [generator.permutation(np.flatnonzero(labels == number)) for number in range(num_classes)]
    fewest = min(len(indices) for indices in permuted)
    if fewest < shots:
        raise UserError(
            f"few-shot support: the smallest class has {fewest} images, fewer than shots = {shots}; lower shots or "
            "give a larger support set"
        )
    return np.concatenate([indices[:shots] for indices in permuted])


def ridge(features: Matrix, targets: Matrix, l2: float) -> Matrix:
    """argmin over W of |X W - Y|^2 + l2 |W|^2, solved in the smaller of feature and sample space."""
    num_samples, num_features = features.shape
    if num_samples >= num_features:
        gram = features.T @ features + l2 * np.eye(num_features)
        return np.asarray(np.linalg.solve(gram, features.T @ targets), np.float64)
    gram = features @ features.T + l2 * np.eye(num_samples)
    return features.T @ np.linalg.solve(gram, targets)


def _refuse_unfit(plan: EvalPlan) -> None:
    """Classes have to be exclusive, and the same in both sets."""
    support, test = plan.sources["support"], plan.sources["test"]
    for source in (support, test):
        if source.label_type != "single":
            raise UserError(f"few-shot: {source.manifest} is multi-label; give a set with one class per image")
    if support.num_classes != test.num_classes:
        raise UserError(
            f"few-shot: {support.manifest} has {support.num_classes} classes and {test.manifest} has "
            f"{test.num_classes}; support and test must share their classes"
        )


def _with_bias(features: Matrix) -> Matrix:
    return np.concatenate([features, np.full((len(features), 1), BIAS_FEATURE)], axis=1)
