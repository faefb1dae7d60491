"""The engine against a bare PyTorch loop, and against itself on other numbers of processes."""

from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from scaling.errors import UserError
from scaling.launch.study_dir import PlannedRun
from scaling.models.networks.vision_model import VisionModel
from scaling.records.run_plan import RunPlan
from tests.support.ranks import codes, start

STEPS = 5


def batches(plan: RunPlan, rank: int, world: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """The same random global batches everywhere; a rank takes every `world`-th image."""
    generator = torch.Generator().manual_seed(0)
    result = []
    for _ in range(STEPS):
        images = torch.randint(0, 256, (plan.schedule.batch, 3, 32, 32), generator=generator, dtype=torch.uint8)
        labels = torch.randint(0, 4, (plan.schedule.batch, 1), generator=generator)
        result.append((images[rank::world], labels[rank::world]))
    return result


def new_model(plan: RunPlan) -> VisionModel:
    """With a head that is not zero: behind a zero head every other gradient of the first step is zero."""
    from scaling.train.scoring import build_planned

    torch.manual_seed(plan.seed)
    model = build_planned(plan.model)
    torch.nn.init.normal_(model.head.weight, std=0.1)
    return model


def train_with_engine(run_dir: Path, out: Path) -> None:
    """Gradients of the first step and weights after every step, written by the first rank."""
    from scaling.train.processes.process_group import join_processes
    from scaling.train.step.engine import build_engine
    from scaling.train.step.rules import plan_batching

    torch.set_num_threads(1)
    plan = RunPlan.load(run_dir)
    with join_processes() as processes:
        batching = plan_batching(plan.schedule.batch, processes.world, plan.engine.micro_batch)
        engine = build_engine(new_model(plan), plan, batching, processes.device, processes.rank)
        found, norms = {}, []
        for step, (images, labels) in enumerate(batches(plan, processes.rank, processes.world), 1):
            engine.accumulate(step, images, labels)
            if step == 1 and plan.engine.zero_stage == 0:
                found |= {f"grad/{name}": p.grad.clone() for name, p in engine.model.named_parameters()}
            norms.append(float(engine.update(step)))
            found |= {f"weight/{step}/{name}": p.detach().clone() for name, p in engine.model.named_parameters()}
        found["norms"] = torch.tensor(norms)
        if processes.is_first:
            save_file(found, out)


def train_bare(run_dir: Path, out: Path, engine: Path) -> None:
    """The recipe written down once more with nothing but tensors: losses, clipping, Adam with decoupled decay, SGD with
    momentum, what is decayed by how much, mixup with the image half a batch away.

    Every step starts from the weights that the engine had there. Left alone, a rounding that decides a ReLU or a
    maximum otherwise makes two right loops part within a few steps.
    """
    from scaling.train.step.losses import mixing_share
    from scaling.train.step.rules import learning_rate_at

    torch.set_num_threads(1)
    plan = RunPlan.load(run_dir)
    recipe = plan.recipe
    model = new_model(plan)
    found = {}
    engine_weights = load_file(engine)
    moments = {name: (torch.zeros_like(p), torch.zeros_like(p)) for name, p in model.named_parameters()}
    for step, (images, labels) in enumerate(batches(plan, 0, 1), 1):
        model.zero_grad()
        for name, p in model.named_parameters() if step > 1 else ():
            p.data.copy_(engine_weights[f"weight/{step - 1}/{name}"])
        share = mixing_share(plan.seed, step, recipe.mixup) if recipe.mixup else 1.0
        # Laid out and rounded as the engine's: other kernels, or a blend in another order, move the gradient by 2e-6.
        inputs = (images.float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)
        logits = model(torch.lerp(inputs.roll(len(images) // 2, 0), inputs, share))
        targets = torch.eye(4)[labels[:, 0]]
        targets = share * targets + (1 - share) * targets.roll(len(images) // 2, 0)
        targets = targets * (1 - recipe.label_smoothing) + recipe.label_smoothing / 4
        if recipe.loss == "sigmoid":
            on, off = logits.sigmoid().log(), (-logits).sigmoid().log()
            loss = -(targets * on + (1 - targets) * off).sum(dim=1).mean()
        else:
            loss = -(targets * logits.log_softmax(dim=1)).sum(dim=1).mean()
        loss.backward()
        if step == 1:
            found |= {f"grad/{name}": p.grad.clone() for name, p in model.named_parameters()}
        norm = torch.stack([p.grad.square().sum() for p in model.parameters()]).sum().sqrt()
        scale = min(1.0, recipe.clip / norm.item())
        rate = learning_rate_at(step, plan.schedule, recipe)
        for name, p in model.named_parameters():
            first, second = moments[name]
            gradient = p.grad * scale
            decay = recipe.head_weight_decay if name in ("head.weight", "head.bias") else recipe.weight_decay
            decay *= recipe.decay_scope == "all" or p.ndim >= 2
            if recipe.optimizer == "sgd":
                first.mul_(recipe.momentum).add_(gradient + decay * p.data)
                p.data -= rate * first
                continue
            first.mul_(0.9).add_(gradient, alpha=0.1)
            second.mul_(0.999).addcmul_(gradient, gradient, value=0.001)
            update = (first / (1 - 0.9**step)) / ((second / (1 - 0.999**step)).sqrt() + 1e-8)
            p.data -= rate * (update + decay * p.data)
        found |= {f"weight/{step}/{name}": p.detach().clone() for name, p in model.named_parameters()}
    save_file(found, out)


def run(target, run: PlannedRun, out: Path, world: int) -> dict[str, torch.Tensor]:
    assert codes(start(target, run.run_dir, out, world=world)) == [0] * world
    return load_file(out)


def distance(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor], kind: str) -> float:
    """Norm of the difference over norm, all tensors of a kind together."""
    names = [name for name in one if name.startswith(kind)]
    assert names and names == [name for name in other if name.startswith(kind)]
    difference = torch.stack([(one[name] - other[name]).norm() for name in names]).norm()
    return (difference / torch.stack([one[name].norm() for name in names]).norm()).item()


SGD = ("defaults.optimizer=sgd", "defaults.momentum=0.8", "defaults.learning_rate=0.02")
STAIRCASE = ("defaults.decay=staircase", "defaults.decay_at=[2steps, 4steps]", "defaults.decay_factor=0.3")

LINEAR = (
    "grid.model=[mixer-laptop-32px]",
    "defaults.optimizer=sgd",
    "defaults.momentum=0.8",
    "defaults.learning_rate=1.0",
    "defaults.warmup=0",
)
"""For engines that run freely beside each other: no ReLU that a rounding decides, and an update that is no larger than
the gradient, whereas Adam makes a whole step of a gradient that is rounding noise. Five steps at this rate, with weight
decay, move the weights by about their own norm, so that a distance of 1e-6 tells a wrong update."""


@pytest.mark.parametrize("zero_stage", [0, 1, 2])
@pytest.mark.parametrize(
    "recipe",
    [
        (),
        ("defaults.head_weight_decay=2.0", "defaults.decay_scope=all"),
        ("defaults.loss=sigmoid", "defaults.label_smoothing=0.3", "defaults.head_weight_decay=2.0"),
        (*SGD, *STAIRCASE, "defaults.label_smoothing=0.1", "defaults.warmup=0"),
        (*SGD, "defaults.head_weight_decay=2.0"),
        ("defaults.mixup=0.5", "defaults.loss=softmax"),
        ("defaults.mixup=0.5", "defaults.loss=sigmoid", "defaults.label_smoothing=0.1"),
    ],
    ids=["adam", "decay-scope", "sigmoid-smoothing", "sgd-staircase", "sgd-head-decay", "mixup", "sigmoid-mixup"],
)
def test_the_engine_does_what_the_recipe_says(recipe: tuple[str, ...], zero_stage: int, plan_tiny, tmp_path) -> None:
    """Gradients and the weights of five steps to rounding, since the fused update rounds in another order.

    BiT, because Mixer and ViT have biases whose gradient is zero but for rounding noise, which Adam blows up.
    """
    model = ("grid.model=[bit-laptop-32px]", f"defaults.zero_stage={zero_stage}")
    (planned,) = plan_tiny(*model, "defaults.weight_decay=0.5", "defaults.warmup=3steps", *recipe)
    engine = run(train_with_engine, planned, tmp_path / "engine.safetensors", 1)
    bare = run(partial(train_bare, engine=tmp_path / "engine.safetensors"), planned, tmp_path / "bare.safetensors", 1)
    if zero_stage == 0:
        assert distance(engine, bare, "grad/") < 1e-6
    # Adam's first step is the sign of the gradient: where that is rounding noise, so is the weight. A few in 100,000.
    noisy = {name: g.abs() < 1e-4 * g.square().mean().sqrt() for name, g in bare.items() if name.startswith("grad/")}
    assert sum(int(mask.sum()) for mask in noisy.values()) < 3e-4 * sum(mask.numel() for mask in noisy.values())
    for weights in (engine, bare):
        for name, mask in noisy.items():
            weights[name.replace("grad/", "weight/1/")][mask] = 0.0
    assert distance(engine, bare, "weight/") < 1e-6


@pytest.mark.parametrize(
    ("model", "mixup"), [("mixer-laptop-32px", 0.0), ("bit-laptop-32px", 0.0), ("mixer-laptop-32px", 0.5)]
)
def test_gradients_do_not_depend_on_processes_or_micro_batches(
    model: str, mixup: float, plan_tiny, tmp_path: Path
) -> None:
    """Only the order of summation differs: some roundings of 6e-8 each, well under 2e-6 of the gradient."""
    options = (f"grid.model=[{model}]", f"defaults.mixup={mixup}")
    (whole,) = plan_tiny(*options, name="whole")
    (cut,) = plan_tiny(*options, "defaults.micro_batch=2", name="cut")
    alone = run(train_with_engine, whole, tmp_path / "alone.safetensors", 1)
    for planned, world in ((whole, 2), (whole, 4), (cut, 1), (cut, 2)):
        other = run(train_with_engine, planned, tmp_path / "other.safetensors", world)
        assert 0 < distance(alone, other, "grad/") < 2e-6


def test_an_exchange_in_bf16_rounds_the_gradients_and_is_another_run(plan_tiny, tmp_path: Path) -> None:
    """Two roundings of at most 2^-9 each, of the gradients and of their sum; a run of two processes stays one."""
    options = ("grid.model=[bit-laptop-32px]", "launch.devices_per_run=2")
    (exact,), (rounded,) = plan_tiny(*options, name="fp32"), plan_tiny(*options, "defaults.exchange=bf16", name="bf16")
    assert exact.plan.identity != rounded.plan.identity
    assert (exact.plan.engine.batching_counts, rounded.plan.engine.batching_counts) == ("no", "devices")
    first = run(train_with_engine, exact, tmp_path / "fp32.safetensors", 2)
    second = run(train_with_engine, rounded, tmp_path / "bf16.safetensors", 2)
    assert 2**-12 < distance(first, second, "grad/") < 2**-8
    for setting in ("defaults.zero_stage=1", "launch.devices_per_run=1"):
        with pytest.raises(UserError, match=r"bf16 with zero_stage: . and launch.devices_per_run = .; it"):
            plan_tiny(*options, "defaults.exchange=bf16", setting)


@pytest.mark.parametrize("zero_stage", [1, 2])
def test_an_exchange_during_the_backward_pass_gives_the_same_sums(zero_stage: int, plan_tiny, tmp_path: Path) -> None:
    options = (*LINEAR, "defaults.micro_batch=4", f"defaults.zero_stage={zero_stage}", "launch.devices_per_run=2")
    (after,), (during,) = plan_tiny(*options, name="a"), plan_tiny(*options, "defaults.overlap_comm=true", name="b")
    assert after.plan.identity == during.plan.identity
    first = run(train_with_engine, after, tmp_path / "after.safetensors", 2)
    second = run(train_with_engine, during, tmp_path / "during.safetensors", 2)
    assert distance(first, second, "weight/") < 1e-6
    with pytest.raises(UserError, match="true with zero_stage: 0, which exchanges gradients after the backward pass"):
        plan_tiny(*options, "defaults.zero_stage=0", "defaults.overlap_comm=true")


def test_every_zero_stage_makes_the_same_updates(plan_tiny, tmp_path: Path) -> None:
    """The update is the same arithmetic on other fragments of the weights; sums are taken in other orders. So is the
    norm, which every step here is clipped at."""
    options = (*LINEAR, "defaults.micro_batch=4", "defaults.clip=0.1")
    whole, sharded, scattered = (plan_tiny(*options, f"defaults.zero_stage={n}", name=f"zero-{n}")[0] for n in range(3))
    for world in (1, 2):
        first = run(train_with_engine, whole, tmp_path / "whole.safetensors", world)
        assert float(first["norms"].min()) > 0.1
        for planned in (sharded, scattered):
            second = run(train_with_engine, planned, tmp_path / "other.safetensors", world)
            assert distance(first, second, "weight/") < 1e-6
            assert torch.allclose(first["norms"], second["norms"], rtol=1e-5, atol=0)
