"""The benchmarks of the trainer at tiny sizes: what they report, and that the peer learns what we learn."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from scaling.bench.checkpoints import BESIDE, DEEPSPEED, WAITED
from scaling.bench.host_time import narrow_family
from scaling.bench.training import BARE, BARE_SHARDS, TRAINER, TRAINER_SHARDS
from scaling.models.registry import find_model, list_models, register_family


def bench(*words: str) -> str:
    """The command in a process of its own, since it meets and leaves a process group; returns what it prints."""
    command = [sys.executable, "-m", "scaling.bench", *words]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


def test_training_reports_every_loop_on_both_kinds_of_input(tmp_path: Path) -> None:
    sizes = ["--batch", "8", "--steps", "2", "--rounds", "2", "--precision", "bf16", "--device", "cpu"]
    printed = bench("training", *sizes, "--set", "defaults.micro_batch=4", "--json", str(tmp_path / "out.json"))
    figures = json.loads((tmp_path / "out.json").read_text())
    for column in ("step_seconds", "ratio", "cpu_ratio", "images_per_second"):
        assert set(figures[column]) == {BARE, TRAINER, BARE_SHARDS, TRAINER_SHARDS}
    assert all(len(times) == 2 and min(times) > 0 for times in figures["step_seconds"].values())
    assert figures["ratio"][BARE]["median"] == figures["ratio"][BARE_SHARDS]["median"] == 1
    assert 0 <= figures["data_wait"] < 1
    assert figures["mfu"] is None and figures["memory_gb"] is None
    assert (figures["settings"]["batch"], figures["settings"]["precision"]) == (8, "bf16")
    assert str(tmp_path) not in json.dumps(figures)
    assert TRAINER_SHARDS in printed and "a bare step takes" in printed


def test_a_checkpoint_beside_the_steps_is_written_later_than_training_goes_on(tmp_path: Path) -> None:
    sizes = ["--model", "mixer-laptop-32px", "--rounds", "1", "--device", "cpu", "--json", str(tmp_path / "out.json")]
    printed = bench("checkpoint", *sizes)
    figures = json.loads((tmp_path / "out.json").read_text())
    stops, written = figures["stop_seconds"], figures["written_seconds"]
    assert list(stops) == list(written) == [DEEPSPEED, WAITED, BESIDE]
    assert stops[WAITED] == written[WAITED] and stops[BESIDE][0] < written[BESIDE][0]
    assert {"load_at_the_end", "version", "git_commit", "git_dirty", "machine"} <= figures.keys()
    assert BESIDE in printed and "beside the writing" in printed


def test_inference_compares_with_the_first_model(tmp_path: Path) -> None:
    names = ["mixer-laptop-32px", "mixer-conv-laptop-32px"]
    sizes = ["--batch", "2", "--passes", "1", "--rounds", "2"]
    printed = bench("inference", "--models", *names, *sizes, "--json", str(tmp_path / "out.json"))
    figures = json.loads((tmp_path / "out.json").read_text())
    for kind in ("inference", "training"):
        assert list(figures[kind]) == names
        assert figures[kind][names[0]]["speed_ratio"]["median"] == 1
        assert figures[kind][names[1]]["images_per_second"] > 0
    assert names[1] in printed


def test_the_bare_loop_takes_the_trainers_steps(plan_tiny) -> None:
    """The same function of the same weights: a comparison of speeds would otherwise mean little."""
    import torch

    from scaling.bench.bare_loop import BareLoop
    from scaling.data.read.loader import Batch
    from scaling.train.scoring import build_planned
    from scaling.train.step.losses import upstream_loss
    from scaling.train.step.optimizer import build_optimizer

    (planned,) = plan_tiny("defaults.micro_batch=4")
    torch.manual_seed(0)
    images, labels = torch.randint(0, 256, (16, 3, 32, 32), dtype=torch.uint8), torch.randint(0, 4, (16, 1))
    torch.manual_seed(0)
    cut = build_planned(planned.plan.model)
    torch.manual_seed(0)
    whole = build_planned(planned.plan.model)
    BareLoop(cut, planned.plan, torch.device("cpu")).step(iter([Batch(images, labels, 0, ())]))
    optimizer = build_optimizer(whole, planned.plan.recipe, skip_non_finite=False)
    loss = upstream_loss(whole(images.float() / 127.5 - 1), labels, planned.plan.recipe.loss)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(whole.parameters(), 1.0)
    optimizer.step()
    # Behind a head that starts at zero only the head learns in the first step.
    assert not torch.equal(cut.head.weight, torch.zeros_like(cut.head.weight))
    assert torch.allclose(cut.head.weight, whole.head.weight, rtol=0, atol=1e-6)


def test_the_host_pays_for_every_tensor_and_for_partners_that_are_not_there(tmp_path: Path) -> None:
    sizes = ["--model", "mixer-s/32", "--ranks", "8", "--zero-stages", "1", "--rounds", "1", "--steps", "1"]
    printed = bench("host", *sizes, "--json", str(tmp_path / "out.json"))
    figures = json.loads((tmp_path / "out.json").read_text())
    # Table 1: 8 layers, each of two LayerNorms and two MLPs; stem, last LayerNorm and head around them.
    assert figures["tensors"] == 8 * (2 * 2 + 2 * 4) + 3 * 2
    settings = [(case["ranks"], case["zero_stage"]) for case in figures["cases"]]
    assert settings == [(1, 0), (8, 1)]
    assert all(min(case["bare_seconds"] + case["engine_seconds"]) > 0 for case in figures["cases"])
    assert "102 parameter tensors" in printed


@pytest.mark.parametrize("model", list_models())
def test_a_narrow_model_has_the_tensors_of_the_model(model: str) -> None:
    import torch

    from scaling.models.build import build_model

    register_family(narrow_family(model))
    with torch.device("meta"):
        narrow = build_model("narrow", num_classes=10, image_size=32)
        whole = build_model(model, num_classes=10, image_size=find_model(model)[1].image_size)
    named = {name: parameter.dim() for name, parameter in narrow.named_parameters()}
    assert named == {name: parameter.dim() for name, parameter in whole.named_parameters()}
    assert sum(p.numel() for p in narrow.parameters()) < 2e6
