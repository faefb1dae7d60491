"""The linear probe against independent solutions: augmented least squares, and the protocol written out."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from scaling.data.format.load_manifest import load_manifest
from scaling.data.read.pixels import PixelSource
from scaling.errors import UserError
from scaling.evals import fewshot as fewshot_module
from scaling.evals.features import extract_features
from scaling.evals.fewshot import all_labels, choose_penalty, choose_support, first_images
from scaling.evals.ridge import fit_probe, held_out_accuracies, ridge
from scaling.evals.runner import EvaluationContext, run_evaluation
from scaling.evals.settings import EVALUATIONS, metrics_of
from scaling.models.build import build_model
from tests.conftest import PlanTiny


def augmented_least_squares(x: NDArray[np.float64], y: NDArray[np.float64], l2: float) -> NDArray[np.float64]:
    """Ridge as ordinary least squares: one more row, sqrt(l2) times a unit vector with target 0, per weight."""
    rows = np.vstack([x, l2**0.5 * np.eye(x.shape[1])])
    return np.asarray(np.linalg.lstsq(rows, np.vstack([y, np.zeros((x.shape[1], y.shape[1]))]), rcond=None)[0])


@pytest.mark.parametrize(("num_samples", "num_features"), [(50, 20), (20, 50), (30, 30)])
def test_ridge_equals_augmented_least_squares(num_samples: int, num_features: int) -> None:
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(num_samples, num_features)), generator.normal(size=(num_samples, 3))
    for l2 in (1e-3, 1.0, 1024.0):
        assert np.allclose(ridge(x, y, l2), augmented_least_squares(x, y, l2), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize(("num_samples", "num_features"), [(200, 40), (40, 200), (60, 60)])
@pytest.mark.parametrize("solver", ["cholesky", "svd"])
def test_ridge_equals_scikit_learn(num_samples: int, num_features: int, solver: str) -> None:
    """With fewer samples than features and with more."""
    from sklearn.linear_model import Ridge

    generator = np.random.default_rng(1)
    x, y = generator.normal(size=(num_samples, num_features)), generator.normal(size=(num_samples, 5))
    for l2 in (0.1, 1.0, 1024.0):
        theirs = Ridge(alpha=l2, fit_intercept=False, solver=solver).fit(x, y).coef_.T
        assert np.abs(ridge(x, y, l2) - theirs).max() <= 1e-8 * np.abs(theirs).max()


@pytest.mark.parametrize(("num_samples", "num_features"), [(200, 40), (40, 200)])
def test_as_the_penalty_vanishes_ridge_becomes_the_least_squares_of_least_norm(
    num_samples: int, num_features: int
) -> None:
    generator = np.random.default_rng(2)
    x, y = generator.normal(size=(num_samples, num_features)), generator.normal(size=(num_samples, 5))
    limit = np.linalg.lstsq(x, y, rcond=None)[0]
    assert np.abs(ridge(x, y, 1e-8) - limit).max() <= 1e-8 * np.abs(limit).max()


@pytest.mark.parametrize("num_features", [8, 200])
def test_a_probe_scores_as_scikit_learn_on_standardised_features(num_features: int) -> None:
    from sklearn.linear_model import Ridge

    support, test = clusters(num_features, 20), clusters(num_features, 40, seed=2)
    mean, std = support[0].mean(axis=0), support[0].std(axis=0) + 1e-5
    bias = [np.full((len(part[0]), 1), 100.0) for part in (support, test)]
    solver = Ridge(alpha=1024.0, fit_intercept=False, solver="svd")
    solver.fit(np.hstack([(support[0] - mean) / std, bias[0]]), 2.0 * np.eye(6)[support[1]] - 1.0)
    theirs = solver.predict(np.hstack([(test[0] - mean) / std, bias[1]]))
    probe = fit_probe(*support, 6, 1024.0)
    ours = test[0] @ probe.weights + probe.bias
    assert np.abs(ours - theirs).max() <= 1e-8 * np.abs(theirs).max()
    assert probe.accuracy(*test) == np.mean(theirs.argmax(axis=1) == test[1])


def clusters(num_features: int, per_class: int, seed: int = 1) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Six noisy classes (N, D)."""
    centres = np.random.default_rng(7).normal(0, 1.0, (6, num_features))
    labels = np.repeat(np.arange(6), per_class)
    noise = np.random.default_rng(seed).normal(0, num_features**0.25, (len(labels), num_features))
    return centres[labels] + noise, labels


def written_out(support, test, chosen, l2: float) -> float:
    """Standardise, append 100, targets -1 and 1, solve, arg-max: with loops instead of shortcuts."""
    x, labels = support[0][chosen], support[1][chosen]
    mu, sd = x.mean(0), np.sqrt(((x - x.mean(0)) ** 2).mean(0)) + 1e-5
    x = np.c_[(x - mu) / sd, np.full(len(x), 100.0)]
    y = np.where(labels[:, None] == np.arange(6)[None], 1.0, -1.0)
    weights = augmented_least_squares(x, y, l2)
    t = np.c_[(test[0] - mu) / sd, np.full(len(test[0]), 100.0)]
    return float(np.mean([int(np.argmax(row @ weights)) == label for row, label in zip(t, test[1], strict=True)]))


@pytest.mark.parametrize("num_features", [8, 200])
def test_few_shot_equals_the_protocol_written_out(num_features: int) -> None:
    support, test = clusters(num_features, 20), clusters(num_features, 40, seed=2)
    for seed in (0, 1, 2):
        chosen = choose_support(support[1], shots=5, seed=seed, num_classes=6)
        score = fit_probe(support[0][chosen], support[1][chosen], 6, 1024.0).accuracy(*test)
        assert score == written_out(support, test, chosen, 1024.0)
        assert 1 / 6 < score < 1


@pytest.mark.parametrize("num_features", [8, 200])
def test_held_out_accuracies_equal_refitting_without_each_fold(num_features: int) -> None:
    features, labels = clusters(num_features, 4)
    penalties = (2.0**-5, 1.0, 2.0**10)
    expected = np.zeros((4, 3))
    for fold in range(4):
        held_out = np.arange(len(labels)) % 4 == fold  # The images of a class stand side by side, four of each.
        rest, out = np.flatnonzero(~held_out), (features[held_out], labels[held_out])
        expected[fold] = [written_out((features, labels), out, rest, l2) for l2 in penalties]
    assert np.allclose(held_out_accuracies(features, labels, 6, penalties), expected.mean(axis=0), atol=1e-12)


def test_the_chosen_penalty_does_not_depend_on_the_order_of_the_images_of_other_classes() -> None:
    features, labels = clusters(30, 5)
    order = np.argsort(np.arange(len(labels)) % 5, kind="stable")  # Classes in turn; inside a class as before.
    assert choose_penalty(features, labels, 6) == choose_penalty(features[order], labels[order], 6)


def test_of_equally_good_penalties_the_largest_is_chosen() -> None:
    features = np.repeat(np.eye(6) * 1e3, 4, axis=0)
    labels = np.repeat(np.arange(6), 4)
    assert choose_penalty(features, labels, 6) == 2.0**19


def test_support_has_the_shots_of_every_class_and_differs_by_seed() -> None:
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(5), 30))
    draws = [choose_support(labels, shots=4, seed=seed, num_classes=5) for seed in (0, 0, 1)]
    assert np.array_equal(np.bincount(labels[draws[0]]), [4] * 5)
    assert len(set(draws[0].tolist())) == 20
    assert np.array_equal(draws[0], draws[1])
    assert not np.array_equal(draws[0], draws[2])


def test_a_support_pool_too_small_is_refused() -> None:
    with pytest.raises(UserError, match="smallest class has 2"):
        choose_support(np.array([0, 0, 0, 1, 1]), shots=3, seed=0, num_classes=2)


def test_first_images_come_in_the_order_of_the_data_set() -> None:
    assert first_images(np.array([1, 0, 1, 0, 1, 0]), shots=2, num_classes=2).tolist() == [1, 3, 0, 2]


def test_fewer_shots_of_a_seed_are_a_subset() -> None:
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(5), 30))
    few, many = (set(choose_support(labels, shots=shots, seed=3, num_classes=5).tolist()) for shots in (4, 9))
    assert few < many


def test_only_support_images_of_some_draw_are_embedded(plan_tiny: PlanTiny, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole set, embedded and scored image by image, gives the same numbers."""
    plan = plan_tiny("evals.0.shots=[1,3]")[0].plan
    evaluation = plan.evals[0]
    torch.manual_seed(0)
    model = build_model(plan.model.name, num_classes=4, image_size=plan.model.image_size).eval()
    where = EvaluationContext(torch.device("cpu"), "fp32", plan.model.image_size, 1)
    embedded = []

    def counted(*args, samples=None, **kwargs):  # type: ignore[no-untyped-def]
        features = extract_features(*args, samples=samples, **kwargs)
        embedded.append(len(features[0]))
        return features

    monkeypatch.setattr(fewshot_module, "extract_features", counted)
    metrics = fewshot_module.evaluate(model, evaluation, where)
    source = PixelSource(load_manifest(evaluation.sources["support"].manifest))
    labels = all_labels(source)
    draws = [choose_support(labels, shots=shots, seed=seed, num_classes=4) for shots in (1, 3) for seed in (0, 1, 2)]
    assert embedded[0] == len(set(np.concatenate(draws).tolist())) < len(labels)

    features, read_labels = extract_features(model, source, "fewshot", 64, where)
    assert np.array_equal(labels, read_labels)
    for shots in (1, 3):
        scores = []
        for seed in (0, 1, 2):
            chosen = choose_support(labels, shots=shots, seed=seed, num_classes=4)
            scores.append(fit_probe(features[chosen], labels[chosen], 4, 1024.0).accuracy(features, labels))
        # A feature's last bits depend on which images share its batch: one arg-max in 80 may differ.
        assert metrics[f"{shots}shot_top1"] == pytest.approx(np.mean(scores), abs=1 / 80 / 3)


PROBES = "{support: train.json, test: val.json, shots: [2, 5]"


def test_what_planning_says_is_measured_is_what_is_recorded(plan_tiny: PlanTiny) -> None:
    """Of the evaluations without a classifier; those with one and fine-tuning are compared where they are computed."""
    evals = f"[{PROBES}, kind: fewshot, support_seeds: [0, 7]}}, {PROBES}, kind: fewshot_2021}}, {{kind: throughput"
    plan = plan_tiny(f"evals={evals}, batch_sizes: [2, 4], repeats: 2, seconds: 0.001}}]")[0].plan
    model = build_model(plan.model.name, num_classes=4, image_size=plan.model.image_size)
    where = EvaluationContext(torch.device("cpu"), "fp32", plan.model.image_size, 1)
    for one in plan.evals:
        found = run_evaluation(model, one, where)
        assert [f"{one.name}/{name}" for name in metrics_of(one) or ()] == list(found)
    others = {"upstream", "real", "finetune"}
    assert {one.kind for one in plan.evals} | others == {name for name, kind in EVALUATIONS.items() if kind.metrics}


def test_features_that_are_not_finite_are_refused(plan_tiny: PlanTiny) -> None:
    plan = plan_tiny()[0].plan
    model = build_model(plan.model.name, num_classes=4, image_size=plan.model.image_size).eval()
    with torch.no_grad():
        next(iter(model.parameters())).fill_(float("nan"))
    where = EvaluationContext(torch.device("cpu"), "fp32", plan.model.image_size, 1)
    with pytest.raises(UserError, match="not finite"):
        fewshot_module.evaluate(model, plan.evals[0], where)
