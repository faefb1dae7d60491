"""Data and weights that no probe can be computed from: one sentence with a way out and exit code 2, before anything is
trained where that can be known."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from scaling.data.format.index import expand_urls, index_shards
from scaling.errors import run_command
from scaling.evaluate.command import main as evaluate
from scaling.models.build import build_model
from scaling.plan import overlap
from tests.support.planning import DryRun, make_dry_run
from tests.support.unusable_data import write_unusable_sets

SWEEP = """\
study: probes
data: {{root: {root}, train: train.json, val: val.json}}
protocol: {{kind: constant_steps, steps: 30, batch: 16}}
grid: {{model: [mixer-laptop-32px], fraction: [0.5], seed: [0]}}
evals:
  - {{kind: {kind}, support: train.json, test: val.json, shots: [2]}}
"""


@pytest.fixture(scope="module")
def data(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny data set and others that cannot be used with it."""
    folder = tmp_path_factory.mktemp("data")
    write_unusable_sets(folder, tiny_data)
    for split, classes in (("train", "abcd"), ("val", "abcd"), ("val", "abcde")):
        name = f"{split}-{classes}"
        index_shards(expand_urls([str(folder / split)]), folder / f"{name}.json", name=name, classes=list(classes))
    return folder


@pytest.fixture
def dry_run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> DryRun:
    return make_dry_run(monkeypatch, capsys, tmp_path / "runs")


@pytest.mark.parametrize("kind", ["fewshot", "fewshot_2021"])
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["support=without.json"], ["1 of 4 classes of without.json", "'2' with 0, although the test set has it"]),
        (["shots=[2, 2]"], ["shots: [2, 2]: a value stands there twice", "each counts once"]),
        (["shots=[1000]"], ["4 of 4 classes of train.json have fewer than 1000 images", "lower shots"]),
        (["support=multi.json"], ["multi.json is multi-label; give a set with one class per image"]),
        (["test=multi.json"], ["multi.json is multi-label"]),
        (["support=train-abcd.json", "test=val-abcde.json"], ["has 4 classes and val-abcde.json has 5"]),
        (["test=train.json"], ["train.json is the data set train.json itself", "scaling.data dedup"]),
        (["test=shared.json"], ["shared.json shares 1 of its 2 shards with train.json"]),
        (["test=copies.json"], ["10 of the 10 images of copies.json are in train.json too, under the same key"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value[0], str) else "",
)
def test_probes_are_refused_at_planning(
    dry_run: DryRun, data: Path, tmp_path: Path, kind: str, options: list[str], expected: list[str]
) -> None:
    path = tmp_path / "probes.yaml"
    path.write_text(SWEEP.format(root=json.dumps(str(data)), kind=kind))
    code, told = dry_run(path, *(f"evals.0.{option}" for option in options))
    assert code == 2, told
    (line,) = told.splitlines()
    assert line.startswith("error: ") and "evals[0]" in line, line
    for part in expected:
        assert part in line


CLASSIFIER = SWEEP.partition("  - ")[0] + "  - {{kind: {kind}, test: {test}{more}}}\n"


@pytest.mark.parametrize(
    ("kind", "test", "more", "options", "expected"),
    [
        ("upstream", "val-abcde.json", "", ("data.train=train-abcd.json", "data.val=val-abcd.json"),
         "'e' is only in val-abcde.json"),
        ("upstream", "val-abcde.json", "", (), "val-abcde.json has 5 classes and train.json 4"),
        ("real", "val-abcde.json", ", labels: sets.json", (), "val-abcde.json has 5 classes and train.json 4"),
        ("upstream", "multi.json", ", loss: softmax", ("data.train=multi.json", "data.val=multi.json"),
         "loss: softmax, which takes one label an image, and multi.json is multi-label; write loss: sigmoid"),
        ("upstream", "multi.json", "", (), "trained by softmax, which takes one label an image"),
        ("upstream", "val.json", "", ("data.train=multi.json", "data.val=multi.json"),
         "loss: softmax, the default for single-label data such as val.json, is not what the runs are trained by"),
        ("upstream", "val.json", "", ("defaults.loss=sigmoid",), "write loss: sigmoid"),
        ("upstream", "val.json", ", loss: sigmoid", (), "write loss: softmax"),
    ],
)  # fmt: skip
def test_a_classifier_is_scored_on_its_own_classes_by_its_own_loss(
    dry_run: DryRun, data: Path, tmp_path: Path, kind: str, test: str, more: str, options: tuple[str, ...], expected
) -> None:
    (data / "sets.json").write_text(json.dumps([[0]] * 80))
    path = tmp_path / "classifier.yaml"
    path.write_text(CLASSIFIER.format(root=json.dumps(str(data)), kind=kind, test=test, more=more))
    code, told = dry_run(path, *options)
    (line,) = [line for line in told.splitlines() if "error: " in line]
    assert code == 2 and "evals[0]" in line and expected in line, told


def test_runs_of_two_losses_are_scored_by_one_with_a_warning(
    dry_run: DryRun, data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "classifier.yaml"
    path.write_text(CLASSIFIER.format(root=json.dumps(str(data)), kind="upstream", test="val.json", more=""))
    with caplog.at_level("WARNING"):
        assert dry_run(path)[0] == 0 and "mean nothing" not in caplog.text
        assert dry_run(path, "grid.loss=[softmax, sigmoid]")[0] == 0
    assert "those of loss: softmax and mean nothing of the runs that are trained by sigmoid" in caplog.text


@pytest.mark.parametrize("kind", ["upstream", "fewshot"])
def test_a_test_set_that_is_trained_on_is_warned_of(
    dry_run: DryRun, data: Path, tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    more = "" if kind == "upstream" else ", support: val.json, shots: [2]"
    path = tmp_path / "classifier.yaml"
    path.write_text(CLASSIFIER.format(root=json.dumps(str(data)), kind=kind, test="train.json", more=more))
    with caplog.at_level("WARNING"):
        assert dry_run(path, "data.train=train-abcd.json", "data.val=val-abcd.json")[0] == 0
    assert "train.json and train-abcd.json hold the same images" in caplog.text
    caplog.clear()
    with caplog.at_level("WARNING"):
        assert dry_run(path, "data.train=shared.json", "evals.0.test=copies.json")[0] == 0
    assert not [one for one in caplog.messages if one.startswith("copies.json") and "hold the same images" in one]


@pytest.mark.parametrize("option", ["labels_path=x.json", "labels_sha256=null", "labels_by=key"])
def test_what_planning_fills_in_is_no_key_of_a_sweep(dry_run: DryRun, data: Path, tmp_path: Path, option: str) -> None:
    (data / "sets.json").write_text(json.dumps([[0]] * 80))
    path = tmp_path / "classifier.yaml"
    more = ", labels: sets.json"
    path.write_text(CLASSIFIER.format(root=json.dumps(str(data)), kind="real", test="val.json", more=more))
    assert dry_run(path) == (0, "")
    code, told = dry_run(path, f"evals.0.{option}")
    assert code == 2 and f"evals[0].{option.partition('=')[0]}: unknown key; did you mean 'labels'?" in told


@pytest.mark.parametrize(
    ("kind", "option"), [("finetune", "recipes=x"), ("upstream", "version=2"), ("real", "by=runs")]
)
def test_no_kind_takes_what_a_plan_keeps_beside_its_settings(
    dry_run: DryRun, data: Path, tmp_path: Path, kind: str, option: str
) -> None:
    path = tmp_path / "classifier.yaml"
    more = ", train: train.json" if kind == "finetune" else ""
    path.write_text(CLASSIFIER.format(root=json.dumps(str(data)), kind=kind, test="val.json", more=more))
    code, told = dry_run(path, f"evals.0.{option}")
    assert code == 2 and "unknown key" in told


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a Mixer whose file does not say what they are of."""
    path = tmp_path_factory.mktemp("weights") / "mixer.safetensors"
    torch.manual_seed(0)
    model = build_model("mixer-laptop-32px", num_classes=4, image_size=32)
    torch.nn.init.normal_(model.head.weight, std=0.1)
    save_file(model.state_dict(), path)
    return path


def score(weights: Path, data: Path, out: Path, kind: str, *settings: str) -> int:
    words = [word for one in settings for word in ("--set", one)]
    told = ["--model", "mixer-laptop-32px", "--num-classes", "4", "--threads", "1", "--out", str(out)]
    return run_command(evaluate, [str(weights), *told, "--eval", kind, "--root", str(data), *words])


PROBE = ("support=train.json", "test=val.json", "shots=[2]")


def test_copies_that_planning_did_not_look_for_are_found_before_a_probe_is_computed(
    weights: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As it is with data sets that are remote or large."""
    monkeypatch.setattr(overlap, "MAX_SAMPLES", 0)
    every = ("support=train.json", "test=copies.json", "shots=[30]")
    assert score(weights, data, tmp_path, "fewshot", *every) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert "of the 10 images of" in line and "copies.json are in" in line and "scaling.data dedup" in line
    assert score(weights, data, tmp_path, "fewshot", *PROBE) == 0


def test_fine_tuning_says_what_planning_did_not_compare(
    dry_run: DryRun, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "probes.yaml"
    text = SWEEP.format(root=json.dumps(str(data)), kind="finetune")
    path.write_text(text.replace(", shots: [2]", "").replace("support:", "train:"))
    assert dry_run(path)[0] == 0 and "only their shards were compared" not in caplog.text
    monkeypatch.setattr(overlap, "MAX_SAMPLES", 0)
    with caplog.at_level("WARNING"):
        assert dry_run(path)[0] == 0
    assert "train.json and val.json are remote or above 0 images, so only their shards were compared" in caplog.text


@pytest.mark.parametrize(
    ("kind", "settings", "expected"),
    [
        ("fewshot", PROBE, "images have features that are not finite: the weights diverged; train again with"),
        ("fewshot_2021", PROBE, "features that are not finite"),
        ("upstream", ("test=val.json",), "80 of 80 images have logits that are not finite: the weights diverged"),
    ],
)
def test_weights_that_diverged_have_no_score(
    weights: Path,
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    kind: str,
    settings: tuple[str, ...],
    expected: str,
) -> None:
    state = load_file(weights)
    state["body.norm.weight"] = torch.full_like(state["body.norm.weight"], float("nan"))
    save_file(state, tmp_path / "diverged.safetensors")
    assert score(tmp_path / "diverged.safetensors", data, tmp_path / "scores", kind, *settings) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert expected in line
    assert not list((tmp_path / "scores").glob("*/evals/*.json"))
