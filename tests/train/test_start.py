"""A run that starts from trained weights: their body, at its resolution, under a new head; or one sentence why not."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from scaling.data.storage.integrity import file_sha256
from scaling.errors import UserError
from scaling.launch.study_dir import PlannedRun
from scaling.models.networks.vision_model import VisionModel
from scaling.plan.finetune.planner import FineTunePlanner
from scaling.plan.planner import Planner
from scaling.records.run_dir import RunDir
from scaling.records.run_plan import RunPlan, StartPlan
from scaling.spec.study import load_study
from scaling.train.scoring import build_planned
from scaling.train.start import start_from

MODELS = ["mixer-laptop-32px", "vit-laptop-32px", "bit-laptop-32px", "mixer-conv-laptop-32px"]


def final_of(run: PlannedRun, options: tuple[str, ...]) -> tuple[VisionModel, RunPlan]:
    """The model of a pre-training run with weights in its folder, and the plan of a fine-tuning run at 64 px."""
    torch.manual_seed(0)
    trained = build_planned(run.plan.model)
    for parameter in trained.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    path = RunDir(run.run_dir).best_weights
    path.parent.mkdir(parents=True)
    save_file(trained.state_dict(), path)
    study, document = load_study(run.run_dir.parent.parent / "tiny.yaml", options)
    (job,) = FineTunePlanner(Planner(study, document), study, document).plan([run.plan])
    plan = job.finals(file_sha256(path), 0.01)[0]
    return trained, plan


def options_of(model: str) -> tuple[str, ...]:
    # Planning says whether train and test share images; this test looks at weights alone.
    entry = "{kind: finetune, name: fine, train: train.json, test: val.json, resolution: 64, steps: 20, batch: 16}"
    return (f"grid.model=[{model}]", f"evals=[{entry}]")


def begun(plan: RunPlan, study_dir: Path, start: StartPlan | None = None) -> VisionModel:
    model = build_planned(plan.model)
    assert plan.start is not None
    start_from(model, start or plan.start, study_dir)
    return model.eval()


@pytest.mark.parametrize("name", MODELS)
def test_the_body_is_the_trained_one_at_the_new_resolution(name: str, count_here: None, plan_tiny) -> None:
    """A mosaic of four equal images has, for Mixer, the features of one of them; the head begins at zero."""
    options = options_of(name)
    (run,) = plan_tiny(*options)
    trained, plan = final_of(run, options)
    model = begun(plan, run.run_dir.parent)
    assert plan.model.image_size == 64 and model.head.weight.abs().max() == 0 and model.head.bias.abs().max() == 0
    images = torch.rand(3, 3, 32, 32) * 2 - 1
    mosaic = images.repeat(1, 1, 2, 2)
    with torch.inference_mode():
        features = model.features(mosaic)
        if name.startswith("mixer"):
            torch.testing.assert_close(features, trained.eval().body(images), rtol=1e-4, atol=1e-4)
        assert torch.isfinite(features).all() and features.std() > 0
    same = [key for key, value in trained.state_dict().items() if key.startswith("body.") and "mlp_tokens" not in key]
    for key in same:
        if model.state_dict()[key].shape == trained.state_dict()[key].shape:
            assert torch.equal(model.state_dict()[key], trained.state_dict()[key])


def test_weights_that_are_gone_changed_or_no_numbers_are_refused(plan_tiny) -> None:
    options = options_of(MODELS[0])
    (run,) = plan_tiny(*options)
    trained, plan = final_of(run, options)
    path = RunDir(run.run_dir).best_weights
    assert plan.start is not None
    with torch.no_grad():
        trained.state_dict()["body.norm.weight"][3] = float("nan")
    save_file(trained.state_dict(), path)
    with pytest.raises(UserError, match=r"are not the weights of .* planned to start from .*launch the study again"):
        begun(plan, run.run_dir.parent)
    changed = plan.start.model_copy(update={"sha256": file_sha256(path)})
    with pytest.raises(UserError, match=r"body.norm.weight holds values that are not finite.*smaller learning_rate"):
        begun(plan, run.run_dir.parent, changed)
    path.unlink()
    with pytest.raises(UserError, match="are gone; launch the study again"):
        begun(plan, run.run_dir.parent)
