"""The arithmetic of the recipe against closed forms and independent implementations."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from scaling.errors import UserError
from scaling.records.run_plan import RecipePlan, SchedulePlan
from scaling.train.step.losses import multi_hot, precision_at_1, upstream_loss
from scaling.train.step.optimizer import parameter_groups
from scaling.train.step.rules import learning_rate_at, plan_batching


def schedule(steps: int, warmup: int, decay: str) -> tuple[SchedulePlan, RecipePlan]:
    return (
        SchedulePlan(
            protocol="constant_steps",
            batch=1,
            steps=steps,
            epochs=1,
            warmup_steps=warmup,
            decay=decay,  # type: ignore[arg-type]
        ),
        RecipePlan(
            optimizer="adam",
            learning_rate=3e-3,
            end_learning_rate=1e-5,
            weight_decay=0,
            head_weight_decay=0,
            decay_scope="kernels",
            momentum=0.0,
            beta1=0.9,
            beta2=0.999,
            clip=1,
            loss="sigmoid",
            label_smoothing=0.0,
            augment="none",
            precision="fp32",
        ),
    )


@pytest.mark.parametrize("decay", ["linear", "cosine"])
def test_warm_up_reaches_the_peak_and_decay_the_end_value(decay: str) -> None:
    plans = schedule(1000, 100, decay)
    assert learning_rate_at(1, *plans) == pytest.approx(3e-5)
    assert learning_rate_at(50, *plans) == pytest.approx(1.5e-3)
    assert learning_rate_at(100, *plans) == pytest.approx(3e-3)
    assert learning_rate_at(550, *plans) == pytest.approx((3e-3 + 1e-5) / 2)
    assert learning_rate_at(1000, *plans) == pytest.approx(1e-5)


def test_the_schedule_is_big_visions() -> None:
    """Its `create_learning_rate_schedule` (utils.py), whose first step is number 0, written down again in NumPy."""
    warmup, total, end, base = 100, 1000, 1e-5, 3e-3
    step = np.arange(total + 1)
    progress = np.clip((step - warmup) / (total - warmup), 0.0, 1.0)
    ramp = np.minimum(1.0, step / warmup)
    shapes = {"linear": end + (base - end) * (1 - progress), "cosine": base * 0.5 * (1 + np.cos(np.pi * progress))}
    for decay, curve in shapes.items():
        plan, recipe = schedule(total, warmup, decay)
        if decay == "cosine":
            recipe = recipe.model_copy(update={"end_learning_rate": 0.0})
        ours = [learning_rate_at(int(t), plan, recipe) for t in step[1:]]
        # The linear end value enters big_vision's warm-up nowhere: the ramp multiplies the whole.
        assert ours == pytest.approx((curve * ramp)[1:].tolist(), rel=1e-12, abs=1e-18)


def test_bits_staircase_divides_by_ten_after_30_60_and_80_of_90_epochs() -> None:
    plan, recipe = schedule(900, 50, "staircase")
    plan = plan.model_copy(update={"decay_steps": (300, 600, 800), "decay_factor": 0.1})
    rates = [learning_rate_at(step, plan, recipe) for step in (50, 300, 301, 600, 601, 800, 801, 900)]
    assert rates == pytest.approx([3e-3, 3e-3, 3e-4, 3e-4, 3e-5, 3e-5, 3e-6, 3e-6])


def test_what_planning_leaves_out_as_idle_is_not_read() -> None:
    """The end of a rate that does not fall to one, and the scope of no weight decay."""
    for decay in ("constant", "staircase"):
        plan, recipe = schedule(900, 50, decay)
        plan = plan.model_copy(update={"decay_steps": (300,) if decay == "staircase" else (), "decay_factor": 0.1})
        one, two = (recipe.model_copy(update={"end_learning_rate": end}) for end in (0.0, 1e-4))
        for step in range(1, 901):
            assert learning_rate_at(step, plan, one) == pytest.approx(learning_rate_at(step, plan, two), rel=1e-12)
            if decay == "constant" and step >= 50:
                assert learning_rate_at(step, plan, one) == 3e-3
    model = torch.nn.ModuleDict({"body": torch.nn.Linear(2, 2), "head": torch.nn.Linear(2, 2)})
    both = [parameter_groups(model, recipe.model_copy(update={"decay_scope": scope})) for scope in ("kernels", "all")]
    for groups in both:
        assert [group["weight_decay"] for group in groups] == [0.0]
        assert list(map(id, groups[0]["params"])) == list(map(id, model.parameters()))


@pytest.mark.parametrize("kind", ["sigmoid", "softmax"])
def test_label_smoothing_spreads_its_share_over_all_classes(kind: str) -> None:
    generator = np.random.default_rng(0)
    logits, labels = generator.normal(0, 2, (5, 7)), np.array([[0], [6], [2], [2], [1]])
    targets = 0.8 * np.eye(7)[labels[:, 0]] + 0.2 / 7
    if kind == "softmax":
        expected = -(targets * (logits - np.log(np.exp(logits).sum(1, keepdims=True)))).sum() / 5
    else:
        p = 1 / (1 + np.exp(-logits))
        expected = -(targets * np.log(p) + (1 - targets) * np.log(1 - p)).sum() / 5
    found = upstream_loss(torch.tensor(logits), torch.tensor(labels), kind, 0.2)  # type: ignore[arg-type]
    assert found.item() == pytest.approx(expected, rel=1e-6)


@given(steps=st.integers(2, 300), data=st.data())
def test_the_rate_rises_then_never_rises_again(steps: int, data: st.DataObject) -> None:
    warmup = data.draw(st.integers(0, steps - 1))
    decay = data.draw(st.sampled_from(["linear", "cosine", "constant"]))
    rates = [learning_rate_at(step, *schedule(steps, warmup, decay)) for step in range(1, steps + 1)]
    assert all(0 < rate <= 3e-3 * (1 + 1e-12) for rate in rates)
    assert rates[:warmup] == sorted(rates[:warmup])
    after = rates[max(0, warmup - 1) :]
    assert all(later <= earlier * (1 + 1e-12) for earlier, later in itertools.pairwise(after))


def test_sigmoid_loss_is_the_sum_over_classes_and_the_mean_over_images() -> None:
    generator = np.random.default_rng(0)
    logits = generator.normal(0, 3, (5, 7))
    labels = np.array([[0, 3], [6, -1], [2, 2], [-1, -1], [1, 5]])
    targets = np.zeros((5, 7))
    for row, numbers in enumerate(labels):
        targets[row, [n for n in numbers if n >= 0]] = 1
    probability = 1 / (1 + np.exp(-logits))
    expected = -(targets * np.log(probability) + (1 - targets) * np.log(1 - probability)).sum() / 5
    assert np.array_equal(multi_hot(torch.tensor(labels), 7).numpy(), targets)
    assert upstream_loss(torch.tensor(logits), torch.tensor(labels), "sigmoid").item() == pytest.approx(expected, 1e-6)


def test_head_bias_of_minus_log_classes_starts_near_the_prior() -> None:
    """K sigmoids at -ln K start at a loss near 1 + ln K, not at K ln 2."""
    num_classes = 1000
    logits = torch.full((4, num_classes), -math.log(num_classes))
    loss = upstream_loss(logits, torch.tensor([[1], [2], [3], [4]]), "sigmoid").item()
    assert loss == pytest.approx(1 + math.log(num_classes), rel=1e-2)


def test_softmax_loss_uses_the_one_label() -> None:
    logits = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([[0], [1], [2], [3], [0], [1]])
    expected = -torch.log_softmax(logits.double(), 1)[torch.arange(6), labels[:, 0]].mean()
    assert upstream_loss(logits, labels, "softmax").item() == pytest.approx(expected.item(), rel=1e-6)


def test_precision_at_1_accepts_any_of_an_images_labels() -> None:
    logits = torch.eye(4)
    labels = torch.tensor([[3, 0], [0, -1], [2, 1], [-1, -1]])
    assert precision_at_1(logits, labels).tolist() == [1, 0, 1, 0]


@given(batch=st.integers(1, 512), world=st.integers(1, 16), limit=st.integers(1, 600))
def test_batching_consumes_exactly_the_global_batch(batch: int, world: int, limit: int) -> None:
    if batch % world:
        with pytest.raises(UserError, match="does not divide"):
            plan_batching(batch, world, limit)
        return
    plan = plan_batching(batch, world, limit)
    assert plan.world * plan.micro_batch * plan.accumulation == batch
    assert plan.micro_batch <= limit
