"""The classifier's accuracy, loss and calibration against their definitions written out in numpy, image by image."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import webdataset
from numpy.typing import NDArray

from scaling.data.format.index import expand_urls, index_shards
from scaling.data.format.manifest import Manifest
from scaling.data.read.images.transforms import evaluate_view
from scaling.data.read.pixels import PixelSource
from scaling.errors import UserError
from scaling.evals.label_files import settle
from scaling.evals.runner import EvaluationContext, run_evaluation
from scaling.evals.settings import UpstreamSettings, metrics_of
from scaling.evals.upstream import calibration_error
from scaling.models.build import build_model
from scaling.models.networks.vision_model import VisionModel
from scaling.records.run_plan import EvalPlan, SourcePlan
from tests.support.tiny_study import encode

NUM_CLASSES = 7

WHERE = EvaluationContext(torch.device("cpu"), "fp32", 32, 1)


def make_data(folder: Path, label_type: str) -> Manifest:
    """50 noisy images; of a multi-label set every fifth has no label."""
    generator = np.random.default_rng(3)
    (folder / label_type).mkdir()
    with webdataset.TarWriter(str(folder / label_type / "a.tar")) as writer:
        for number in range(50):
            pixels = generator.integers(0, 256, (32, 32, 3)).astype(np.uint8)
            count = 1 if label_type == "single" else [0, 1, 2, 3, 1][number % 5]
            labels = [int(one) for one in generator.choice(NUM_CLASSES, count, replace=False)]
            sample = {"__key__": f"ILSVRC2012_val_{number + 1:08d}", "png": encode(pixels)}
            label = {"cls": str(labels[0])} if label_type == "single" else {"json": json.dumps({"labels": labels})}
            writer.write(sample | label)
    classes = [f"c{number}" for number in range(NUM_CLASSES)]
    urls = expand_urls([str(folder / label_type)])
    return index_shards(urls, folder / f"{label_type}.json", name=label_type, classes=classes, label_type=label_type)


def plan_of(folder: Path, manifest: Manifest, kind: str, **settings: object) -> EvalPlan:
    source = SourcePlan(
        manifest=str(folder / f"{manifest.name}.json"),
        digest=manifest.digest,
        label_type=manifest.label_type,
        num_classes=len(manifest.classes),
        num_samples=manifest.num_samples,
    )
    return EvalPlan(kind=kind, name="x", sources={"test": source}, settings=settings)


def fitted(num_classes: int = NUM_CLASSES) -> VisionModel:
    """A model with a classifier that is not zero."""
    torch.manual_seed(0)
    model = build_model("mixer-laptop-32px", num_classes=num_classes, image_size=32).eval()
    torch.nn.init.normal_(model.head.weight, std=0.3)
    return model


def logits_of(model: VisionModel, manifest: Manifest) -> tuple[NDArray[np.float64], list[list[int]]]:
    """One image at a time."""
    source = PixelSource(manifest)
    rows, labels = [], []
    for index in range(manifest.num_samples):
        sample = source.get(0, index)
        view = evaluate_view(sample.pixels, "upstream", 32)[None].float() / 127.5 - 1
        with torch.inference_mode():
            rows.append(model(view)[0].double().numpy())
        labels.append(sample.labels)
    return np.array(rows), labels


@pytest.mark.parametrize("label_type", ["single", "multi"])
def test_every_metric_is_its_definition(tmp_path: Path, label_type: str) -> None:
    manifest = make_data(tmp_path, label_type)
    model = fitted()
    plan = plan_of(tmp_path, manifest, "upstream", batch=16)
    found = run_evaluation(model, plan, WHERE)
    assert [f"x/{name}" for name in metrics_of(plan) or ()] == list(found)
    logits, labels = logits_of(model, manifest)
    hits = np.array([int(np.argmax(row)) in one for row, one in zip(logits, labels, strict=True)])
    top5 = [bool(set(np.argsort(-row)[:5].tolist()) & set(one)) for row, one in zip(logits, labels, strict=True)]
    if label_type == "single":
        chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        losses = [-np.log(row[one[0]]) for row, one in zip(chances, labels, strict=True)]
    else:
        chances = 1 / (1 + np.exp(-logits))
        losses = [
            -sum(np.log(row[k]) if k in one else np.log(1 - row[k]) for k in range(NUM_CLASSES))
            for row, one in zip(chances, labels, strict=True)
        ]
    confidences = chances.max(axis=1)
    error = 0.0
    for k in range(15):
        members = (confidences > k / 15) & (confidences <= (k + 1) / 15)
        if members.any():
            error += members.mean() * abs(hits[members].mean() - confidences[members].mean())
    assert 0 < hits.mean() < 1 and hits.mean() < np.mean(top5)
    assert found["x/precision_at_1"] == found["x/top1"] == pytest.approx(hits.mean())
    assert found["x/top5"] == pytest.approx(np.mean(top5))
    assert found["x/loss"] == pytest.approx(np.mean(losses), rel=1e-5)
    assert found["x/calibration_error"] == pytest.approx(error, rel=1e-4)


def test_calibration_of_known_bins() -> None:
    """Confidence 1 and always right is no error; a tenth sure and always right is an error of nine tenths."""
    assert calibration_error(np.ones(4), np.ones(4)) == 0
    assert calibration_error(np.full(5, 0.1), np.ones(5)) == pytest.approx(0.9)
    assert calibration_error(np.array([0.0, 1.0]), np.array([0.0, 0.0])) == 0.5
    # Within a bin misses on one side make up for hits on the other.
    assert calibration_error(np.array([0.5, 0.5]), np.array([0.0, 1.0])) == 0


def test_label_sets_skip_and_count_what_is_empty(tmp_path: Path) -> None:
    manifest = make_data(tmp_path, "single")
    model = fitted()
    logits, labels = logits_of(model, manifest)
    generator = np.random.default_rng(0)
    sets = [generator.choice(NUM_CLASSES, number % 4, replace=False).tolist() for number in range(50)]
    best = logits.argmax(axis=1)
    scored = [(int(k) in one, int(k) in own) for k, one, own in zip(best, sets, labels, strict=True) if one]
    (tmp_path / "list.json").write_text(json.dumps(sets))
    named = {f"ILSVRC2012_val_{n + 1:08d}": [f"c{k}" for k in one] for n, one in enumerate(sets)}
    (tmp_path / "keys.json").write_text(json.dumps(named))
    for name in ("list.json", "keys.json"):
        settings = settle({"labels": name, "batch": 16}, str(tmp_path))
        plan = plan_of(tmp_path, manifest, "real", **settings)
        found = run_evaluation(model, plan, WHERE)
        assert [f"x/{name}" for name in metrics_of(plan) or ()] == list(found)
        assert found["x/num_empty"] == sum(not one for one in sets) == 13
        assert found["x/num_scored"] == 37
        assert found["x/top1"] == pytest.approx(np.mean([one for one, _ in scored]))
        assert found["x/original_top1"] == pytest.approx(np.mean([own for _, own in scored]))
    digests = {plan_of(tmp_path, manifest, "real", **settle({"labels": name}, str(tmp_path))).digest() for name in
               ("list.json", "keys.json")}  # fmt: skip
    assert len(digests) == 2
    (tmp_path / "list.json").write_text("[[0]]")
    short = settle({"labels": "list.json"}, str(tmp_path))
    with pytest.raises(UserError, match="has 1 label sets and single has 50 images"):
        run_evaluation(model, plan_of(tmp_path, manifest, "real", **short), WHERE)
    del named["ILSVRC2012_val_00000007"]
    (tmp_path / "keys.json").write_text(json.dumps(named))
    with pytest.raises(UserError, match="no label set for 1 of the 50 images"):
        run_evaluation(
            model, plan_of(tmp_path, manifest, "real", **settle({"labels": "keys.json"}, str(tmp_path))), WHERE
        )


def test_the_list_that_timm_ships_is_that_of_the_paper() -> None:
    settings = settle({"labels": "imagenet-real"}, "")
    sets = json.loads(Path(settings["labels_path"]).read_text())
    assert len(sets) == 50_000 and sum(not one for one in sets) == 3_163 and sum(len(one) > 1 for one in sets) == 7_443
    assert settings["labels_by"] == "validation_number"


def test_bad_input_has_a_way_out(tmp_path: Path) -> None:
    manifest = make_data(tmp_path, "single")
    with pytest.raises(UserError, match="7 classes and the classifier of mixer-laptop-32px has 3; give data of the"):
        run_evaluation(fitted(3), plan_of(tmp_path, manifest, "upstream"), WHERE)
    broken = fitted()
    torch.nn.init.constant_(broken.head.bias, float("nan"))
    with pytest.raises(UserError, match="50 of 50 images have logits that are not finite"):
        run_evaluation(broken, plan_of(tmp_path, manifest, "upstream"), WHERE)
    multi = make_data(tmp_path, "multi")
    with pytest.raises(UserError, match="loss: softmax takes one label an image, and multi is multi-label"):
        run_evaluation(fitted(), plan_of(tmp_path, multi, "upstream", loss="softmax"), WHERE)
    with pytest.raises(UserError, match=r"nothing.json cannot be read"):
        settle({"labels": "nothing.json"}, str(tmp_path))
    (tmp_path / "text.json").write_text('"a"')
    with pytest.raises(UserError, match="holds a str; write a list of sets"):
        settle({"labels": "text.json"}, str(tmp_path))
    assert UpstreamSettings().loss is None
