"""Counted compute beside the papers': 6 x GMACs x images gives ViT's Table 6, and the count follows the rule."""

import csv
from importlib import resources

import pytest

from scaling.launch.price.forecast import papers_flops, train_flops
from scaling.models.zoo import PAPER_FAMILIES
from scaling.plan.zoo_counts import ModelFacts, ModelQuery, zoo_facts
from tests.support.run_plans import run_plan

JFT_IMAGES, JFT_CLASSES = 302.0e6, 18_291
"""Images as read from the axis of Mixer's Figure 2; classes as BiT has them (arXiv 1912.11370, Section 3.1)."""

TOLERANCE = 0.03


def table_6() -> list[tuple[str, float, float]]:
    """Model, epochs and exaFLOPs of pre-training of the ViT rows of arXiv 2010.11929, Table 6."""
    text = (resources.files("analysis.published") / "vit_table6.csv").read_text(encoding="utf-8")
    return [
        (row["model"].lower(), float(row["epochs"]), float(row["pretrain_exaflops"]))
        for row in csv.DictReader(text.splitlines())
        if row["model"].startswith("ViT-")
    ]


def facts(model: str, num_classes: int = JFT_CLASSES) -> ModelFacts:
    found = zoo_facts(ModelQuery(model, 224, num_classes))
    assert found is not None
    return found


@pytest.mark.parametrize(("model", "epochs", "exaflops"), table_6())
def test_the_papers_rule_gives_vits_table(model: str, epochs: float, exaflops: float) -> None:
    gmacs = facts(model).flops_forward_per_image / 2e9
    assert 6 * gmacs * 1e9 * epochs * JFT_IMAGES == pytest.approx(exaflops * 1e18, rel=TOLERANCE)


def test_all_six_rows_of_the_table_are_there() -> None:
    rows = [model.removeprefix("vit-") for model, _, _ in table_6()]
    assert rows == ["b/32", "b/16", "l/32", "l/16", "l/16", "h/14"]


PAPER_MODELS = [m.name for family in PAPER_FAMILIES for m in family.models if m.image_size == 224]


@pytest.mark.parametrize("model", [name for name in PAPER_MODELS if "laptop" not in name])
def test_the_count_of_training_follows_the_rule(model: str) -> None:
    """The gradient for the first layer's input, which nobody computes, is all that is between them."""
    counted = facts(model)
    share = counted.flops_train_per_image / (3 * counted.flops_forward_per_image)
    assert 1 - TOLERANCE < share <= 1


def test_a_plans_compute_by_rule_and_by_count() -> None:
    plan = run_plan(steps=10)
    examples = 10 * plan.schedule.batch
    assert papers_flops(plan) == 6 * (plan.model.flops_forward_per_image / 2) * examples
    assert train_flops(plan) == plan.model.flops_train_per_image * examples
