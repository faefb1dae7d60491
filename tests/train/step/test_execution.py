"""Choices of how a model is executed leave what it learns, and the names of its weights, as they are."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from scaling.errors import UserError
from scaling.records.result import RunResult
from scaling.train.step.execution import memory_format
from tests.support.ranks import codes, start_run
from tests.train.step.test_engine import batches, distance, new_model, run, train_with_engine


def compile_eagerly(rank: int) -> None:
    """Trace with dynamo as ever, but run what is traced as it is: the compiler proper takes most of a minute."""
    compile_with = torch.nn.Module.compile
    torch.nn.Module.compile = lambda self: compile_with(self, backend="eager")  # type: ignore[method-assign]


@pytest.mark.parametrize("model", ["mixer-laptop-32px", "mixer-conv-laptop-32px", "vit-laptop-32px", "bit-laptop-32px"])
def test_activation_checkpointing_gives_the_same_bits(model: str, plan_tiny, tmp_path: Path) -> None:
    """Also with stochastic depth, whose masks must be drawn again alike in the backward pass."""
    options = (f"grid.model=[{model}]", "defaults.drop_path=0.5")
    (kept,) = plan_tiny(*options, name="kept")
    (again,) = plan_tiny(*options, "defaults.activation_checkpointing=true", name="again")
    assert kept.plan.identity == again.plan.identity
    first = run(train_with_engine, kept, tmp_path / "kept.safetensors", 1)
    second = run(train_with_engine, again, tmp_path / "again.safetensors", 1)
    assert first.keys() == second.keys()
    for name in first:
        assert torch.equal(first[name], second[name]), name


def test_a_body_that_cannot_compute_again_is_refused() -> None:
    from scaling.models.networks.vision_model import BuildArguments, VisionModel

    arguments = BuildArguments(name="own", num_classes=2, image_size=8)
    model = VisionModel(arguments, family="own", body=torch.nn.Flatten(), num_features=192)
    with pytest.raises(UserError, match="activation_checkpointing: own"):
        model.checkpoint_activations()


def test_channels_last_computes_the_same_in_another_order(plan_tiny, tmp_path: Path) -> None:
    """The engine's numbers move by roundings. How far depends on whether one of them decides a ReLU or a maximum, so
    the bound is put on float64, where none of them can."""
    (first,) = plan_tiny("grid.model=[bit-laptop-32px]", "defaults.channels_last=false", name="first")
    (last,) = plan_tiny("grid.model=[bit-laptop-32px]", "defaults.channels_last=true", name="last")
    plain = run(train_with_engine, first, tmp_path / "plain.safetensors", 1)
    other = run(train_with_engine, last, tmp_path / "other.safetensors", 1)
    assert 0 < distance(plain, other, "grad/") < 0.01

    model = new_model(first.plan).double()
    images, labels = batches(first.plan, 0, 1)[0]
    exact = []
    for planned in (first, last):
        model.zero_grad()
        inputs = (images.double() / 127.5 - 1).contiguous(memory_format=memory_format(planned.plan))
        torch.nn.functional.cross_entropy(model(inputs), labels[:, 0]).backward()
        exact.append({f"grad/{name}": p.grad.clone() for name, p in model.named_parameters()})
    assert distance(*exact, "grad/") < 1e-12


def test_a_compiled_run_keeps_the_names_of_its_weights(plan_tiny) -> None:
    (plain,) = plan_tiny("protocol.steps=10", name="plain")
    (compiled,) = plan_tiny("protocol.steps=10", "defaults.compile=true", name="compiled")
    assert codes(start_run(plain.run_dir, 1)) == [0]
    assert codes(start_run(compiled.run_dir, 1, compile_eagerly)) == [0]
    for name in ("best/model.safetensors", "step_00000010_attempt1/state.safetensors"):
        one, other = (load_file(planned.run_dir / "checkpoints" / name) for planned in (plain, compiled))
        assert one.keys() == other.keys()
    results = [RunResult.load(planned.run_dir) for planned in (plain, compiled)]
    assert results[0] is not None and results[1] is not None
    assert results[1].metrics["upstream/loss"] == pytest.approx(results[0].metrics["upstream/loss"], rel=1e-4)


TAKE_AND_FREE = """
import resource
import torch
from scaling.train.step.execution import keep_freed_memory
{keep}
for step in range(20):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(64, 2**18)  # 64 MB: 16,384 pages
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.parametrize("keep", ["", "keep_freed_memory()"])
def test_memory_of_one_step_serves_the_next(keep: str) -> None:
    """Counted in pages that the system cleared for the last step: malloc by itself gives a large block back."""
    script = TAKE_AND_FREE.format(keep=keep)
    faults = int(subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout)
    assert faults == 0 if keep else faults > 16_000
