"""`scaling.evaluate` on weights: the numbers of the run's record, and records and rows for weights of any maker."""

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import timm
import torch
import webdataset
from safetensors.torch import save_file

from scaling.bench.synthetic_study import named
from scaling.data.format.index import expand_urls, index_shards
from scaling.errors import UserError
from scaling.evals.runner import EvaluationContext
from scaling.evaluate.architecture import read_architecture
from scaling.evaluate.command import main
from scaling.evaluate.weights import WeightsExecution, score_weights
from scaling.evaluate.weights_records import runs_csv
from scaling.launch.study_dir import PlannedRun
from scaling.models.build import build_model
from scaling.models.networks.vision_model import VisionModel, normalise
from scaling.models.weights.files import save_npz
from scaling.records.evaluation import Evaluation
from scaling.records.run_plan import EvalPlan, InputPlan
from scaling.records.study import load_run
from tests.support.local_runs import train_all
from tests.support.tiny_study import encode


def fewshot(capsys: pytest.CaptureFixture[str], *words: str) -> float:
    assert main([*words, "--threads", "1", "--json"]) == 0
    accuracy: float = json.loads(capsys.readouterr().out)["metrics"]["fewshot/2shot_top1"]
    return accuracy


@pytest.fixture
def stripes(tmp_path: Path) -> Path:
    """Manifest of 60 noisy images whose classes have one mean colour and differ in where their stripes lie; beside it
    `support.json`, of as many others."""
    generator = np.random.default_rng(0)
    for name in ("stripes", "support"):
        (tmp_path / name).mkdir()
        with webdataset.TarWriter(str(tmp_path / name / f"{name}.tar")) as writer:
            for number in range(60):
                waves = np.sin(2 * np.pi * (np.arange(24) / 24 * (number % 3 + 1)))[:, None, None]
                pixels = np.clip(128 + 40 * waves + generator.normal(0, 60, (24, 24, 3)), 0, 255).astype(np.uint8)
                writer.write({"__key__": f"{number:03d}", "png": encode(pixels), "cls": str(number % 3)})
        index_shards(expand_urls([str(tmp_path / name)]), tmp_path / f"{name}.json", name=name)
    return tmp_path / "stripes.json"


def support_of(stripes: Path) -> Path:
    return stripes.with_name("support.json")


def probe_on(stripes: Path) -> list[str]:
    settings = (f"support={support_of(stripes)}", f"test={stripes}", "shots=[2]")
    return ["--eval", "fewshot", *(word for one in settings for word in ("--set", one))]


def test_kept_weights_score_what_the_record_says_whatever_their_input(
    plan_tiny: Callable[..., list[PlannedRun]], stripes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A weights file knows the permutation that its model was trained under: forgetting it changes the accuracy."""
    evaluation = f"evals=[{{kind: fewshot, support: {support_of(stripes)}, test: {stripes}, shots: [2]}}]"
    runs = plan_tiny("grid.permute=[none, patches_and_pixels, global]", "protocol.steps=12", evaluation)
    train_all(runs)
    told = probe_on(stripes)
    for run in runs:
        recorded = load_run(run.run_dir).metrics["fewshot/2shot_top1"]
        alone = tmp_path / f"{run.plan.run_id}.safetensors"
        shutil.copy(run.run_dir / "checkpoints" / "best" / "model.safetensors", alone)
        assert fewshot(capsys, str(run.run_dir)) == recorded
        assert fewshot(capsys, str(run.run_dir), "--no-record") == recorded
        assert fewshot(capsys, str(alone), *told, "--no-record") == recorded
        if run.plan.input.permute != "none":
            named(run.plan.model_copy(update={"input": InputPlan()})).save(run.run_dir)
            assert fewshot(capsys, str(run.run_dir), "--no-record") != recorded


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no run.json"):
        main([str(tmp_path)])
    with pytest.raises(UserError, match=r"there is no such file"):
        main([str(tmp_path / "a.safetensors"), "--eval", "fewshot"])
    with pytest.raises(UserError, match=r"no such evaluation; did you mean 'fewshot'"):
        main([str(tmp_path / "a.npz"), "--model", "mixer-b/32", "--eval", "fewshots"])


def score(weights: Path, stripes: Path, out: Path, *words: str) -> int:
    return main([str(weights), *probe_on(stripes), "--threads", "1", "--out", str(out), *words])


def test_weights_of_other_makers_leave_records_and_rows(stripes: Path, tmp_path: Path) -> None:
    """timm's own names and the papers' arrays, both scored without a run; the same question is answered once."""
    torch.manual_seed(0)
    network = timm.create_model("resnet18", num_classes=7)
    save_file(network.state_dict(), tmp_path / "resnet18.safetensors")
    mixer = build_model("mixer-laptop-32px", num_classes=5, image_size=32)
    save_npz(mixer, tmp_path / "mixer.npz")
    scores = tmp_path / "scores"
    timm_words = ("--model", "timm:resnet18", "--image-size", "32", "--num-images", "1281167", "--num-classes", "7")
    assert score(tmp_path / "resnet18.safetensors", stripes, scores, *timm_words) == 0
    assert score(tmp_path / "mixer.npz", stripes, scores, "--model", "mixer-laptop-32px", "--num-images", "14e6") == 0
    rows = pd.read_csv(scores / "runs.csv").set_index("model")
    assert set(rows.index) == {"timm:resnet18", "mixer-laptop-32px"}
    assert rows.loc["mixer-laptop-32px", "num_images"] == 14_000_000
    (folder,) = scores.glob("timm-resnet18*")
    record = Evaluation.load(folder, "fewshot")
    assert (
        record is not None and record.metrics["fewshot/2shot_top1"] == rows.loc["timm:resnet18", "fewshot/2shot_top1"]
    )
    assert [one.split for one in record.data] == ["support", "test"] and record.data[1].num_samples == 60
    assert "fewshot_lsr" in record.protocol and record.settings["support_seeds"] == [0, 1, 2]
    before = (folder / "evals" / "fewshot.json").stat().st_mtime_ns
    assert score(tmp_path / "resnet18.safetensors", stripes, scores, *timm_words) == 0
    assert (folder / "evals" / "fewshot.json").stat().st_mtime_ns == before
    assert score(tmp_path / "resnet18.safetensors", stripes, scores, *timm_words, "--set", "l2=1") == 0
    assert (folder / "evals" / "fewshot.json").stat().st_mtime_ns != before

    # Sound records in the place of others are no numbers of these weights.
    (other,) = scores.glob("mixer-laptop*")
    for name in ("evals/fewshot.json", "weights.json"):
        moved = tmp_path / name.replace("/", "-")
        shutil.copytree(scores, moved)
        shutil.copy(other / name, moved / folder.name / name)
        table = pd.read_csv(io.StringIO(runs_csv(moved)))
        assert list(table["model"]) == ["mixer-laptop-32px"]
    (folder / "weights.json").write_bytes(b"")
    with pytest.raises(UserError, match=r"weights.json: is empty; remove that file"):
        score(tmp_path / "resnet18.safetensors", stripes, scores, *timm_words)


def test_a_model_of_timm_sees_the_colours_that_it_was_trained_with(stripes: Path, tmp_path: Path) -> None:
    """Features are those of timm's model on pixels normalised by its own mean and deviation."""
    torch.manual_seed(0)
    network = timm.create_model("resnet18", num_classes=7).eval()
    save_file(network.state_dict(), tmp_path / "resnet18.safetensors")
    architecture = read_architecture(str(tmp_path / "resnet18.safetensors"), "timm:resnet18", 32, {}, 7)
    seen: list[torch.Tensor] = []

    def keep(model: VisionModel, plan: EvalPlan, where: EvaluationContext) -> dict[str, float]:
        images = torch.randint(0, 256, (4, 3, 32, 32), generator=torch.Generator().manual_seed(1)).to(torch.uint8)
        with torch.inference_mode():
            seen.extend([model.eval()(normalise(images)), images])
        return {}

    execution = WeightsExecution(out=None, num_images=None, precision="fp32", threads=1, loader_threads=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("scaling.evals.fewshot.evaluate", keep)
        score_weights(
            str(tmp_path / "resnet18.safetensors"), architecture, [EvalPlan(kind="fewshot", name="x")], execution
        )
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    pixels = (seen[1] / 255 - mean.view(3, 1, 1)) / std.view(3, 1, 1)
    with torch.inference_mode():
        assert torch.allclose(seen[0], network(pixels), atol=1e-5)


def test_weights_need_a_model_and_an_evaluation(stripes: Path, tmp_path: Path) -> None:
    save_file({"fc.weight": torch.zeros(1, 1)}, tmp_path / "a.safetensors")
    with pytest.raises(UserError, match="does not say what model"):
        score(tmp_path / "a.safetensors", stripes, tmp_path)
    with pytest.raises(UserError, match="which evaluation of"):
        main([str(tmp_path / "a.safetensors"), "--model", "mixer-b/32"])
    with pytest.raises(UserError, match=r"--set shot=1: evals.*unknown key; did you mean 'shots'"):
        score(tmp_path / "a.safetensors", stripes, tmp_path, "--model", "mixer-b/32", "--set", "shot=1")
