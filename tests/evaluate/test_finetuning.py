"""Fine-tuning that is asked for after training: of a run, and of weights of any maker, by the same runs."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from scaling.errors import UserError
from scaling.evals.settings import metrics_of
from scaling.evaluate.command import main
from scaling.launch.study_dir import PlannedRun, write_study
from scaling.models.build import build_model
from scaling.models.networks.vision_model import normalise
from scaling.models.weights.files import save_npz
from scaling.records.evaluation import Evaluation
from scaling.records.study import load_plan_order, load_run, read_study
from scaling.spec.document import Document
from tests.support.local_runs import train_all

EVALS = """\
root: {root}
evals:
  - kind: finetune
    name: colours
    train: train.json
    test: val.json
    recipe: vit-finetune
    resolution: {resolution}
    steps: 12
    batch: 16
    learning_rates: {rates}
    seeds: {seeds}
"""


@pytest.fixture
def asked(tiny_data: Path, tmp_path: Path) -> Callable[..., Path]:
    def write(resolution: int = 64, rates: str = "[0.003]", seeds: str = "[0, 1]") -> Path:
        path = tmp_path / "evals.yaml"
        root = json.dumps(str(tiny_data))
        path.write_text(EVALS.format(root=root, resolution=resolution, rates=rates, seeds=seeds))
        return path

    return write


def rows(record: Evaluation) -> list[dict[str, Any]]:
    """What was tried and found, without names and times."""
    left_out = {"run_id", "seconds"}
    return [{name: value for name, value in row.items() if name not in left_out} for row in record.rows]


def test_a_run_and_a_copy_of_its_weights_are_fine_tuned_alike(
    plan_tiny: Callable[..., list[PlannedRun]],
    asked: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    runs = plan_tiny("grid.seed=[0,1]", "protocol.steps=6")
    train_all(runs)
    run, study = runs[0], runs[0].run_dir.parent
    words = ["--eval", str(asked(rates="[0.003, 0.01]", seeds="[3]")), "--threads", "1", "--json"]
    assert main([str(run.run_dir), *words]) == 0
    told = json.loads(capsys.readouterr().out)
    record = load_run(run.run_dir).evaluations["colours"]
    assert told["metrics"] == record.metrics and told["missing"] == []
    (plan,) = [one for one in load_run(run.run_dir).plan.evals if one.name == "colours"]
    assert [f"colours/{name}" for name in metrics_of(plan) or ()] == list(record.metrics)
    assert [row["role"] for row in record.rows] == ["trial", "trial", "final"]
    assert (record.data[0].split, record.data[1].num_samples) == ("train", 80)
    assert record.protocol.startswith("fine-tuning by the recipes") and record.settings["seeds"] == [3]
    # The other run of the study stays in its plan, and fine-tuning runs are not fine-tuned in turn.
    order = load_plan_order(study)
    assert order is not None and {one.plan.run_id for one in runs} <= set(order) and len(order) == 2 + 3
    done = {path: path.stat().st_mtime_ns for path in study.glob("*/result.json")}
    assert main([str(study), *words]) == 0
    assert all(path.stat().st_mtime_ns == before for path, before in done.items())
    assert len(read_study(study).runs) == 2 + 2 * 3
    # Planned again as the sweep has it, the study keeps what was added.
    write_study(study, Document(Path("x"), {}), [one.plan for one in runs])
    assert load_run(run.run_dir).evaluations["colours"] == record

    copy = tmp_path / "copy.safetensors"
    shutil.copy(run.run_dir / "checkpoints" / "best" / "model.safetensors", copy)
    capsys.readouterr()
    assert main([str(copy), *words, "--out", str(tmp_path / "scores")]) == 0
    assert json.loads(capsys.readouterr().out)["metrics"] == record.metrics
    (folder,) = (tmp_path / "scores").glob("mixer-laptop-32px_*")
    other = Evaluation.load(folder, "colours")
    assert other is not None and rows(other) == rows(record)
    assert (other.protocol, other.data, other.settings) == (record.protocol, record.data, record.settings)


def test_weights_of_other_makers_are_fine_tuned_and_leave_rows(
    asked: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The papers' arrays at twice the resolution, and timm's names, whose colours are its own."""
    torch.manual_seed(0)
    save_npz(build_model("mixer-laptop-32px", num_classes=5, image_size=32), tmp_path / "mixer.npz")
    save_file(timm.create_model("test_byobnet", num_classes=7).state_dict(), tmp_path / "resnet.safetensors")
    scores = tmp_path / "scores"
    words = ["--threads", "1", "--out", str(scores), "--num-images", "14e6"]
    npz = [str(tmp_path / "mixer.npz"), "--model", "mixer-laptop-32px", *words, "--eval", str(asked(64))]
    assert main(npz) == 0
    of_timm = [str(tmp_path / "resnet.safetensors"), "--model", "timm:test_byobnet", "--image-size", "32", *words]
    assert main([*of_timm, "--num-classes", "7", "--eval", str(asked(32))]) == 0
    table = pd.read_csv(scores / "runs.csv").set_index("model")
    for name, folder_name, size in (("mixer-laptop-32px", "mixer-*", 64), ("timm:test_byobnet", "timm-*", 32)):
        (folder,) = scores.glob(folder_name)
        record = Evaluation.load(folder, "colours")
        assert record is not None and [row["role"] for row in record.rows] == ["final", "final"]
        assert table.loc[name, "colours/top1"] == record.metrics["colours/top1"]
        assert record.metrics["colours/top1"] == sum(row["top1"] for row in record.rows) / 2
        for run in read_study(folder).runs:
            assert run.plan.start is not None and run.plan.start.run_id == folder.name
            assert run.plan.model.image_size == size and run.plan.serves == f"colours of {folder.name}"
    saved = load_file(next(scores.glob("timm-*")) / "weights.safetensors")
    assert torch.equal(saved["body.stem.conv.weight"], load_file(tmp_path / "resnet.safetensors")["stem.conv.weight"])
    # What is recorded is not done again.
    before = {path: path.stat().st_mtime_ns for path in scores.glob("*/*/result.json")}
    capsys.readouterr()
    asked(64)
    assert main([*npz, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["metrics"].keys() == {"colours/top1", "colours/loss"}
    assert {path: path.stat().st_mtime_ns for path in scores.glob("*/*/result.json")} == before


def test_a_fine_tuned_model_of_timm_sees_its_own_colours() -> None:
    """The option changes what the body sees and no name of a weight."""
    torch.manual_seed(0)
    network = timm.create_model("test_byobnet", num_classes=0).eval()
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    options = {"pixel_mean": mean, "pixel_std": std}
    model = build_model("timm:test_byobnet", num_classes=3, image_size=32, options=options).eval()
    model.body.load_state_dict(network.state_dict())
    images = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8)
    expected = (images / 255 - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    with torch.inference_mode():
        assert torch.allclose(model.features(normalise(images)), network(expected), atol=1e-5)
    for wrong in ({"pixel_mean": mean}, {"pixel_mean": mean, "pixel_std": [0.2, 0.2, 0]}, {"pixel_std": "a"}):
        with pytest.raises(UserError, match=r"of a timm model is not three finite numbers.*pixel_mean: \[0.485"):
            build_model("timm:test_byobnet", num_classes=3, image_size=32, options=wrong)


def test_what_cannot_be_fine_tuned_is_refused_before_anything_is_trained(
    asked: Callable[..., Path], tmp_path: Path
) -> None:
    save_npz(build_model("mixer-laptop-32px", num_classes=5, image_size=32), tmp_path / "mixer.npz")
    words = [str(tmp_path / "mixer.npz"), "--model", "mixer-laptop-32px", "--threads", "1"]
    scores = ["--out", str(tmp_path / "scores")]
    with pytest.raises(UserError, match=r"--eval colours: image_size = 48.*take a multiple of 32"):
        main([*words, *scores, "--eval", str(asked(48))])
    with pytest.raises(UserError, match="is done by further runs, which are recorded; leave out --no-record"):
        main([*words, "--no-record", "--eval", str(asked(64))])
    assert not list((tmp_path / "scores").glob("*/*/run.json"))
